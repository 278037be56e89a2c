"""The tutorial's hands-on (Saxena, Arora): digits 8 and 9 from five images each, by fine-tuning, MAML and metric learners.

python experiments/mnist/run.py --variant alike
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from metaser.cli import script
from metaser.reporting import plots, tables
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import Finished

NAMES = {
    "scratch": "from scratch", "fine-tuned": "fine-tuned, all layers", "head-tuned": "fine-tuned, last layer",
    "fine-tuned-20": "fine-tuned, 20 steps", "maml-80": "MAML, 80 tasks",
}  # fmt: skip

#: What the tutorial says is better than what.
CLAIMED = (("maml", "fine-tuned"), ("fomaml", "fine-tuned"), ("maml-80", "fine-tuned-20"), ("fine-tuned", "scratch"))


UNLIKE = "The tutorial's two runs are not alike: other digits in pre-training, 20 steps against 10, one seed each."


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """``paired.csv``, ``accuracy.png``, and ``table.md``: ours beside the tutorial's, its claims as paired tests."""
    stand_in = (f"**This is not MNIST** but {finished.collection}, smaller and easier; with MNIST in METASER_DATA the same command "
                "uses it.")  # fmt: skip
    drawing = Drawing(finished, caption(finished), finished.names(NAMES), stand_in)
    drawing.csv("paired", drawing.tests)
    accuracies(drawing)
    (protocol,) = drawing.protocols
    drawing.table(
        about(finished), ours(drawing), protocol.claims(CLAIMED, "points", {"accuracy": "accuracy"}), drawing.note,
        UNLIKE if len(paper) else "",
    )  # fmt: skip


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    tasks = finished.first.tasks
    return f"{finished.collection}: 8 against 9 from {tasks.shots} + {tasks.shots} images"


def accuracies(drawing: Drawing) -> None:
    """``accuracy.png``: every seed's accuracy, and their mean."""
    scores, names = drawing.finished.scores, drawing.names
    figure, axis = plt.subplots(figsize=(7, 0.5 * len(names) + 1.5))
    for place, label in enumerate(names):
        means = scores[scores["algorithm"] == label].groupby("seed")["accuracy"].mean()
        axis.plot(100 * means, np.full(len(means), place), "o", color=plots.COLOURS[0], alpha=0.4, markersize=4)
        axis.plot([100 * means.mean()], [place], "|", color=plots.COLOURS[1], markersize=18, markeredgewidth=2)
    axis.set_yticks(range(len(names)), list(names.values()))
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set(xlabel="accuracy on the query images, %; a dot per seed, a bar at the mean", title=drawing.caption)
    axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    plots.save(figure, drawing.finished.folder / "accuracy.png")


def about(finished: Finished) -> str:
    """How all are trained and tested."""
    settings = finished.first
    return (
        f"{len(settings.seeds)} seeds, each with its own initial weights, training tasks and {settings.evaluation.tasks} test "
        f"task(s) of 2 × {settings.tasks.shots} support and up to 2 × {settings.evaluation.queries} query images. Mean ± half "
        "width of the 95 % interval over seeds."
    )


def ours(drawing: Drawing) -> str:
    """A row per method: its accuracy, and the tutorial's where it has one."""
    summary, names = drawing.finished.summary, drawing.names
    rows = summary[summary["metric"] == "accuracy"].set_index("algorithm")[["mean", "ci95", "paper"]]
    lines = [
        [name, tables.percent(mean, ci95), f"{100 * value:.1f}" if value == value else "–"]
        for name, (mean, ci95, value) in zip(names.values(), rows.loc[list(names)].to_numpy().tolist(), strict=True)
    ]
    return tables.markdown(["", "accuracy, %", "tutorial's one run, %"], lines)


if __name__ == "__main__":
    script(__file__)
