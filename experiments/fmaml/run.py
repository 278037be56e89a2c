"""F-MAML (arXiv 2101.01356), Tables 2 to 4 and Figure 3: every language left out in turn, 5-, 10- or 20-shot.

python experiments/fmaml/run.py --variant 5shot
"""

from __future__ import annotations

import pandas as pd

from metaser.cli import script
from metaser.config import Experiment
from metaser.reporting import tables
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import Finished

NAMES = {
    "fomaml": "FOMAML, all classes alike", "supervised": "supervised, support only",
    "zero-shot": "supervised, other languages", "tuned-head": "… head fine-tuned", "tuned-all": "… all fine-tuned",
    "classical": "classical (LR × LDA)", "best": "best (adapted Gaussian)", "best-inductive": "best, inductive",
}  # fmt: skip
#: The paper describes second-order gradients; its authors' code computes first-order ones, as our rows do, of MAML and F-MAML.
PAPER_NAMES = {"fmaml": "F-MAML", "fomaml": "MAML (first order in its code)", "supervised": "Supervised"}
PAPER_TITLES = {"en": "English (EMOFILM)", "it": "Italian (EMOFILM)", "es": "Spanish (EMOFILM)"}

#: The paper's order of methods, as differences that it says are positive.
CLAIMED = (("fmaml", "fomaml"), ("fomaml", "supervised"), ("fmaml", "supervised"))

#: What goes past the paper, and what it is to be better than.
PAST = (("best", "fmaml"), ("best", "classical"))

#: Figure 3's algorithms.
CONVERGING = ("fmaml", "fomaml")


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """``paired.csv``; curves over meta-iterations and inner steps, accuracies, confusion matrices; ``table.md``."""
    drawing, accuracies = Drawing(finished, caption(finished), finished.names(NAMES)), metrics(finished)
    constant = finished.constant_answer()
    drawing.csv("paired", drawing.tests)
    drawing.trends("convergence-loss", "loss", "query loss (nats)", only=CONVERGING)
    drawing.trends("convergence-accuracy", "accuracy", "query accuracy, all classes", only=CONVERGING)
    drawing.curves("steps", "steps", "accuracy_emotions", ("inner steps", "accuracy, emotions only"))
    drawing.bars("accuracy", accuracies, constant)
    drawing.confusions("confusion", only=CONVERGING)
    fixed = {f"recall_{name}": f"recall of {name} (fixed)" for name in finished.first.tasks.fixed}
    parts = [about(finished)]
    for protocol in drawing.protocols:
        parts += [
            protocol.heading,
            protocol.scores({**accuracies, "macro_f1": "macro-F1, all classes", "uar": "UAR, all classes", **fixed}, mean=True),
            how(protocol.settings, constant),
            protocol.claims(CLAIMED, "the paper says positive; points", accuracies),
            protocol.claims(PAST, "past the paper; points", accuracies), drawing.note,
        ]  # fmt: skip
    drawing.table(
        *parts, "## The paper's numbers: EmoFilm, accuracy over all classes",
        "Its text describes second-order gradients; its authors' code computes first-order ones, of MAML and F-MAML.",
        tables.published(paper[paper["metric"] == "accuracy"], PAPER_NAMES, PAPER_TITLES),
    )  # fmt: skip


def metrics(finished: Finished) -> dict[str, str]:
    """The two accuracies of the table, with the number of classes that each counts."""
    ways, fixed = finished.first.tasks.ways, finished.first.tasks.fixed
    return {"accuracy": f"accuracy, {ways + len(fixed)} classes (as the paper counts)",
            "accuracy_emotions": f"accuracy, {ways} emotions only"}  # fmt: skip


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    return (
        f"F-MAML and its baselines, {finished.first.tasks.shots}-shot, {finished.what}: each language left out in turn"
    )


def about(finished: Finished) -> str:
    """Which data, and how far they can be compared with the paper's."""
    intervals = ("Mean ± half width of the 95 % interval (Student's t; over seeds where there are several, over tasks "
                 "where that is wider; with one seed it covers the test tasks only). Silence is generated noise.")  # fmt: skip
    if finished.kind == "synthetic":
        return intervals
    used = finished.first.data.collections.get(finished.collection)
    neutral = "Neutral is borrowed from another corpus." if used and used.neutral else "Neutral is each corpus's own."
    if finished.collection == "emofilm":
        return f"EmoFilm, the paper's corpus. {neutral} {intervals}"
    return (f"Open corpora, one per language, **not** the paper's EmoFilm: languages and emotions are comparable, numbers "
            f"only roughly. {neutral} {intervals}")  # fmt: skip


def how(settings: Experiment, constant: tuple[float, float]) -> str:
    """How a protocol trains and tests, and how often one answer to everything is right."""
    everything, emotions = constant
    return (
        f"{settings.evaluation.tasks} test tasks per language and seed, the same for every method; {len(settings.seeds)} "
        f"seed(s), {settings.training.iterations} meta-iterations of {settings.training.meta_batch} tasks; recipe "
        f"`{settings.features.recipe}`, network `{settings.model.name}`, normalisation {settings.features.normalise}, "
        f"speakers {settings.tasks.speakers}, labels {settings.tasks.order}, where a method does not say otherwise. Always "
        f"giving the commonest answer would be right in {100 * everything:.1f} % of all query clips and "
        f"{100 * emotions:.1f} % of the emotions'."
    )


if __name__ == "__main__":
    script(__file__)
