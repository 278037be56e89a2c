"""FOMAML against MAML on Omniglot (Roy, "MAML and FOMAML on few-shot classification"), and metric learners beside them.

python experiments/omniglot/run.py --variant fc
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from scipy import stats

from metaser.cli import script
from metaser.reporting import tables
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import Finished, read_results

#: What stands above the table of characters that are not Omniglot's.
STAND_IN = "**These characters are SYNTHETIC**: invented and drawn by metaser; the numbers say nothing about Omniglot."

#: What the report says of each other.
CLAIMED = (("fomaml", "maml"),)

#: The report's table, by its own words; how many images its accuracies are of.
REPORTED = {"accuracy": "average test accuracy", "loss": "average test error", "seconds_to_train": "execution time, s"}
ASKED = 800


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """``paired.csv``; loss and accuracy over the iterations; ``table.md``: ours beside what was published."""
    drawing = Drawing(finished, caption(finished), finished.names(), STAND_IN)
    drawing.csv("paired", drawing.tests)
    drawing.trends("loss", "loss", "query loss (nats)")
    drawing.trends("accuracy", "accuracy", "query accuracy")
    (protocol,) = drawing.protocols
    drawing.table(
        about(drawing), ours(drawing), protocol.claims(CLAIMED, "points", {"accuracy": "accuracy"}), drawing.note,
        published(paper, drawing.names), worth(paper),
    )  # fmt: skip


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    tasks, kind = finished.first.tasks, "" if finished.kind == "real" else ", SYNTHETIC data"
    return f"{finished.collection}, {tasks.ways}-way {tasks.shots}-shot, {finished.first.model.name}{kind}"


def about(drawing: Drawing) -> str:
    """How all are trained and tested."""
    settings = drawing.finished.first
    own = {name: settings.algorithms[label].iterations for label, name in drawing.names.items()}
    counts = ", ".join(f"{name} {count}" for name, count in own.items() if count is not None)
    fewer = f" ({counts})" if counts else ""
    return (
        f"{settings.training.iterations} meta-iterations{fewer} of {settings.training.meta_batch} tasks, seed(s) "
        f"{', '.join(map(str, settings.seeds))}; {settings.evaluation.tasks} test tasks per seed of {settings.tasks.ways} × "
        f"{settings.evaluation.queries} queries, of characters that no training task has. Mean ± half width of the 95 % interval "
        "(Student's t over seeds, over tasks where that is wider; with one seed over tasks)."
    )


def ours(drawing: Drawing) -> str:
    """A row per method: accuracy, error and time, with a published accuracy where there is one."""
    finished = drawing.finished
    timing = read_results(finished.folder / "timing.csv")
    columns = ["algorithm", "metric", "mean", "ci95", "paper"]
    cells = {(algorithm, metric): (mean, ci95, value) for frame in (finished.summary, timing)
             for algorithm, metric, mean, ci95, value in frame[columns].to_numpy().tolist()}  # fmt: skip
    rows = []
    for label, name in drawing.names.items():
        mean, ci95, value = cells.get((label, "accuracy"), (math.nan,) * 3)
        loss, width, _ = cells.get((label, "loss"), (math.nan,) * 3)
        pace = cells.get((label, "seconds_per_100_epochs"), (math.nan,) * 3)[0]
        total = cells.get((label, "seconds_to_train"), (math.nan,) * 3)[0]
        rows.append([name, tables.percent(mean, ci95), f"{100 * value:.2f}" if value == value else "–",
                     f"{loss:.4f}" + (f" ± {width:.4f}" if width == width else ""), f"{total:.0f}",
                     f"{pace:.2f}" if pace == pace else "–"])  # fmt: skip
    header = ["", "average test accuracy, %", "published, %", "average test error, nats", "training, s",
              "s per 100 epochs"]  # fmt: skip
    return tables.markdown(header, rows)


def published(paper: pd.DataFrame, names: Mapping[str, str]) -> str:
    """The published numbers of this variant, with where they are from."""
    rows = [[names.get(row["algorithm"], row["algorithm"]), REPORTED.get(row["metric"], row["metric"]), f"{row['value']:g}",
             row["reference"]] for row in paper.to_dict("records")]  # fmt: skip
    return "\n\n".join(["## Published", tables.markdown(["", "what", "value", "from"], rows)]) if rows else ""


def worth(paper: pd.DataFrame) -> str:
    """Whether the report's two accuracies differ, each of 32 tasks of 25 images."""
    values = paper[paper["metric"] == "accuracy"].set_index("algorithm")["value"]
    if not paper["reference"].str.contains(f"{ASKED} queries").any():
        return ""
    right = [round(float(values[name]) * ASKED) for name in ("fomaml", "maml")]
    p = stats.fisher_exact([[count, ASKED - count] for count in right]).pvalue
    return (f"The report tested on 32 tasks, {ASKED} images: {right[0]} and {right[1]} were right (Fisher's exact test, "
            f"p = {p:.2f}). {'It does not show that either is better.' if p > 0.05 else ''}")  # fmt: skip


if __name__ == "__main__":
    script(__file__)
