"""FOMAML against MAML on Omniglot (Roy, "MAML and FOMAML on few-shot classification"), and metric learners beside them.

python experiments/omniglot/run.py --variant fc
"""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from metaser.cli import script
from metaser.experiment import Run
from metaser.reporting import tables, trends
from metaser.reporting.claims import NOTE, claims
from metaser.reporting.finished import Finished, read_results
from metaser.reporting.paired import paired
from metaser.reporting.results import write_csv
from metaser.runtime.files import write_text

NAMES = {"fomaml": "FOMAML", "maml": "MAML", "protonet": "Prototypical network", "matching": "Matching network",
         "relation": "Relation network"}  # fmt: skip

#: What the report says of each other.
CLAIMED = (("fomaml", "maml"),)

#: The report's table, by its own words; how many images its accuracies are of.
REPORTED = {"accuracy": "average test accuracy", "loss": "average test error", "seconds_to_train": "execution time, s"}
ASKED = 800


def run(run: Run) -> None:
    """Trains and tests every cell, writes CSV files, plots and the table."""
    run.carry_out(render)


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """Draws the plots and writes ``paired.csv`` and ``table.md`` from a run's CSV files and ``run.json``."""
    folder, says = finished.folder, caption(finished)
    tests, names = paired(finished.scores), finished.names(NAMES)
    write_csv(tests, folder / "paired.csv")
    for metric, what in (("loss", "query loss (nats)"), ("accuracy", "query accuracy")):
        trends.trends(finished.metrics, metric, what, finished.targets, names, says, folder / f"{metric}.png")
    write_text(folder / "table.md", table(finished, paper, tests, names))


def caption(finished: Finished) -> str:
    """What the numbers are of; what is not Omniglot is never shown without saying so."""
    tasks, kind = finished.first.tasks, "" if finished.kind == "real" else ", SYNTHETIC data"
    return f"{finished.collection}, {tasks.ways}-way {tasks.shots}-shot, {finished.first.model.name}{kind}"


def table(finished: Finished, paper: pd.DataFrame, tests: pd.DataFrame, names: dict[str, str]) -> str:
    """``table.md``: ours beside what was published, the paired test, and what the report's own difference is worth."""
    settings = finished.first
    parts = [f"# {caption(finished)}"]
    if finished.kind != "real":
        parts.append(
            "**These characters are SYNTHETIC**: invented and drawn by metaser; the numbers say nothing about Omniglot."
        )
    own = {names[label]: algorithm.iterations for label, algorithm in settings.algorithms.items()
           if label in names and algorithm.iterations is not None}  # fmt: skip
    fewer = f" ({', '.join(f'{name} {count}' for name, count in own.items())})" if own else ""
    parts += [
        f"{settings.training.iterations} meta-iterations{fewer} of {settings.training.meta_batch} tasks, seed(s) "
        f"{', '.join(map(str, settings.seeds))}; {settings.evaluation.tasks} test tasks per seed of {settings.tasks.ways} × "
        f"{settings.evaluation.queries} queries, of characters that no training task has. Mean ± half width of the 95 % interval "
        "(Student's t over seeds, over tasks where that is wider; with one seed over tasks).",
        ours(finished, names),
        claims(tests, CLAIMED, "points", {"accuracy": "accuracy"}, finished.targets, names), NOTE if len(names) > 1 else "",
        published(paper, names), worth(paper),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def ours(finished: Finished, names: dict[str, str]) -> str:
    """A row per method: accuracy, error and time, with a published accuracy where there is one."""
    timing = read_results(finished.folder / "timing.csv")
    columns = ["algorithm", "metric", "mean", "ci95", "paper"]
    cells = {(algorithm, metric): (mean, ci95, value) for frame in (finished.summary, timing)
             for algorithm, metric, mean, ci95, value in frame[columns].to_numpy().tolist()}  # fmt: skip
    rows = []
    for label, name in names.items():
        mean, ci95, value = cells.get((label, "accuracy"), (math.nan,) * 3)
        loss, width, _ = cells.get((label, "loss"), (math.nan,) * 3)
        pace = cells.get((label, "seconds_per_100_epochs"), (math.nan,) * 3)[0]
        total = cells.get((label, "seconds_to_train"), (math.nan,) * 3)[0]
        rows.append([name, tables.percent(mean, ci95), f"{100 * value:.2f}" if value == value else "–",
                     f"{loss:.4f}" + (f" ± {width:.4f}" if width == width else ""), f"{total:.0f}",
                     f"{pace:.2f}" if pace == pace else "–"])  # fmt: skip
    header = [
        "",
        "average test accuracy, %",
        "published, %",
        "average test error, nats",
        "training, s",
        "s per 100 epochs",
    ]
    return tables.markdown(header, rows)


def published(paper: pd.DataFrame, names: dict[str, str]) -> str:
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
