"""A few clips of a new language: a trained model adapted to them, against training on the same clips alone; config.yaml beside."""

from __future__ import annotations

import pandas as pd

from metaser.cli import script
from metaser.experiment import Run
from metaser.reporting import plots, tables
from metaser.reporting.claims import NOTE, claims
from metaser.reporting.finished import Finished
from metaser.reporting.paired import paired
from metaser.reporting.results import write_csv
from metaser.runtime.files import write_text

NAMES = {
    "gaussian": "adapted Gaussian", "fomaml": "FOMAML", "reptile": "Reptile", "scratch": "the same network from these clips alone",
    "svm": "SVM of these clips alone",
}  # fmt: skip

#: What a trained model is worth: each against each that knows the clips alone.
CLAIMED = [(trained, alone) for trained in ("gaussian", "fomaml", "reptile") for alone in ("scratch", "svm")]

SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1", "uar": "UAR"}


def run(run: Run) -> None:
    """Trains and tests every cell, then reports."""
    run.carry_out(render)


def render(finished: Finished, _: pd.DataFrame) -> None:
    """Draws the plots and writes ``paired.csv`` and ``table.md`` from a run's CSV files and ``run.json``."""
    folder, tests, names = finished.folder, paired(finished.scores), finished.names(NAMES)
    write_csv(tests, folder / "paired.csv")
    plots.confusions(finished.confusions(), caption(finished), folder / "confusion.png")
    write_text(folder / "table.md", table(finished, tests, names))


def caption(finished: Finished) -> str:
    """What the numbers are of; synthetic data are never shown without that word."""
    tasks = finished.first.tasks
    clips = "clip" if tasks.shots == 1 else "clips"
    return f"{tasks.shots} {clips} per emotion of a new language, {tasks.ways} emotions, {finished.what}"


def table(finished: Finished, tests: pd.DataFrame, names: dict[str, str]) -> str:
    """``table.md``: per protocol the scores, and the differences as paired tests."""
    parts = [f"# {caption(finished)}"]
    if finished.kind == "synthetic":
        parts.append("**These data are SYNTHETIC**: invented languages; the numbers say nothing about speech.")
    for protocol, settings in finished.settings.items():
        rows, seen = (frame[frame["protocol"] == protocol] for frame in (finished.summary, tests))
        who = "other speakers than" if settings.tasks.speakers == "disjoint" else "the same speakers as"
        parts += [
            f"## Protocol `{protocol}`, {finished.kind} data",
            f"Trained on {' and '.join(finished.titles[name] for name in settings.data.sources)}. {len(settings.seeds)} seed(s) × "
            f"{settings.evaluation.tasks} draws of {settings.tasks.shots} clip(s) per emotion, asked about up to "
            f"{settings.evaluation.queries} others per emotion, of {who} those that are adapted to. Mean ± half width of the 95 % "
            f"interval (Student's t over seeds, over all draws where that is wider); chance is {100 / settings.tasks.ways:.1f} %.",
            *(tables.metric(rows, metric, title, finished.targets, names) for metric, title in SHOWN.items()),
            claims(seen, CLAIMED, "what training is worth, points", {"accuracy": "accuracy"}, finished.targets, names),
        ]  # fmt: skip
    return "\n\n".join([*parts, NOTE]) + "\n"


if __name__ == "__main__":
    script(__file__)
