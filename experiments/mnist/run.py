"""The tutorial's hands-on (Saxena, Arora): digits 8 and 9 from five images each, by fine-tuning, MAML and metric learners.

python experiments/mnist/run.py --variant alike
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from metaser.cli import script
from metaser.experiment import Run
from metaser.reporting import plots, tables
from metaser.reporting.claims import NOTE, claims
from metaser.reporting.finished import Finished
from metaser.reporting.paired import paired
from metaser.reporting.results import write_csv
from metaser.runtime.files import write_text

NAMES = {
    "scratch": "from scratch", "fine-tuned": "fine-tuned, all layers", "head-tuned": "fine-tuned, last layer", "fomaml": "FOMAML",
    "maml": "MAML", "protonet": "Prototypical network", "matching": "Matching network", "relation": "Relation network",
    "fine-tuned-20": "fine-tuned, 20 steps", "maml-80": "MAML, 80 tasks",
}  # fmt: skip

#: What the tutorial says is better than what.
CLAIMED = (("maml", "fine-tuned"), ("fomaml", "fine-tuned"), ("maml-80", "fine-tuned-20"), ("fine-tuned", "scratch"))


def run(run: Run) -> None:
    """Trains and tests every cell, writes CSV files, plots and the table."""
    run.carry_out(render)


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """Draws the plot and writes ``paired.csv`` and ``table.md`` from a run's CSV files and ``run.json``."""
    folder = finished.folder
    tests, names = paired(finished.scores), finished.names(NAMES)
    write_csv(tests, folder / "paired.csv")
    draw(names, finished)
    write_text(folder / "table.md", table(finished, paper, tests, names))


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    tasks = finished.first.tasks
    return f"{finished.collection}: 8 against 9 from {tasks.shots} + {tasks.shots} images"


def draw(names: dict[str, str], finished: Finished) -> None:
    """``accuracy.png``: every seed's accuracy, and their mean."""
    figure, axis = plt.subplots(figsize=(7, 0.5 * len(names) + 1.5))
    for place, label in enumerate(names):
        means = finished.scores[finished.scores["algorithm"] == label].groupby("seed")["accuracy"].mean()
        axis.plot(100 * means, np.full(len(means), place), "o", color=plots.COLOURS[0], alpha=0.4, markersize=4)
        axis.plot([100 * means.mean()], [place], "|", color=plots.COLOURS[1], markersize=18, markeredgewidth=2)
    axis.set_yticks(range(len(names)), list(names.values()))
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set(xlabel="accuracy on the query images, %; a dot per seed, a bar at the mean", title=caption(finished))
    axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    plots.save(figure, finished.folder / "accuracy.png")


def table(finished: Finished, paper: pd.DataFrame, tests: pd.DataFrame, names: dict[str, str]) -> str:
    """``table.md``: ours beside the tutorial's, the claims as paired tests."""
    settings = finished.first
    parts = [f"# {caption(finished)}"]
    if finished.kind != "real":
        parts.append(f"**This is not MNIST** but {finished.collection}, smaller and easier; with MNIST in METASER_DATA the same "
                     "command uses it.")  # fmt: skip
    rows = finished.summary[finished.summary["metric"] == "accuracy"].set_index("algorithm")[["mean", "ci95", "paper"]]
    lines = [
        [name, tables.percent(mean, ci95), f"{100 * value:.1f}" if value == value else "–"]
        for name, (mean, ci95, value) in zip(names.values(), rows.loc[list(names)].to_numpy().tolist(), strict=True)
    ]
    parts += [
        f"{len(settings.seeds)} seeds, each with its own initial weights, training tasks and {settings.evaluation.tasks} test "
        f"task(s) of 2 × {settings.tasks.shots} support and up to 2 × {settings.evaluation.queries} query images. Mean ± half "
        "width of the 95 % interval over seeds.",
        tables.markdown(["", "accuracy, %", "tutorial's one run, %"], lines),
        claims(tests, CLAIMED, "points", {"accuracy": "accuracy"}, finished.targets, names), NOTE,
    ]  # fmt: skip
    if len(paper):
        parts.append(
            "The tutorial's two runs are not alike: other digits in pre-training, 20 steps against 10, one seed each."
        )
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    script(__file__)
