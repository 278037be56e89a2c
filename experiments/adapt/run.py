"""A few clips of a new language: a trained model adapted to them, against training on the same clips alone; config.yaml beside.

python experiments/adapt/run.py --variant 5shot
"""

from __future__ import annotations

import pandas as pd

from metaser.cli import script
from metaser.config import Experiment
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import Finished

NAMES = {
    "gaussian": "adapted Gaussian", "scratch": "the same network from these clips alone", "svm": "SVM of these clips alone",
}  # fmt: skip

#: What a trained model is worth: each against each that knows the clips alone.
CLAIMED = [(trained, alone) for trained in ("gaussian", "fomaml", "reptile") for alone in ("scratch", "svm")]

SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1", "uar": "UAR"}


def render(finished: Finished, _: pd.DataFrame) -> None:
    """``paired.csv``, ``confusion.png``, and ``table.md``: per protocol the scores, and the differences as paired tests."""
    drawing = Drawing(finished, caption(finished), finished.names(NAMES))
    drawing.csv("paired", drawing.tests)
    drawing.confusions("confusion")
    parts = []
    for protocol in drawing.protocols:
        parts += [
            protocol.heading, about(finished, protocol.settings), protocol.scores(SHOWN),
            protocol.claims(CLAIMED, "what training is worth, points", {"accuracy": "accuracy"}),
        ]  # fmt: skip
    drawing.table(*parts, drawing.note)


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    tasks = finished.first.tasks
    clips = "clip" if tasks.shots == 1 else "clips"
    return f"{tasks.shots} {clips} per emotion of a new language, {tasks.ways} emotions, {finished.what}"


def about(finished: Finished, settings: Experiment) -> str:
    """What a protocol trains on and asks."""
    who = "other speakers than" if settings.tasks.speakers == "disjoint" else "the same speakers as"
    return (
        f"Trained on {' and '.join(finished.titles[name] for name in settings.data.sources)}. {len(settings.seeds)} seed(s) × "
        f"{settings.evaluation.tasks} draws of {settings.tasks.shots} clip(s) per emotion, asked about up to "
        f"{settings.evaluation.queries} others per emotion, of {who} those that are adapted to. Mean ± half width of the 95 % "
        f"interval (Student's t over seeds, over all draws where that is wider); chance is {100 / settings.tasks.ways:.1f} %."
    )


if __name__ == "__main__":
    script(__file__)
