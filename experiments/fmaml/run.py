"""F-MAML (arXiv 2101.01356), Tables 2 to 4 and Figure 3: every language left out in turn, 5-, 10- or 20-shot.

python experiments/fmaml/run.py --variant 5shot
"""

from __future__ import annotations

import pandas as pd

from metaser.cli import script
from metaser.experiment import Run
from metaser.reporting import plots, tables, trends
from metaser.reporting.claims import NOTE, claims
from metaser.reporting.finished import Finished
from metaser.reporting.paired import paired
from metaser.reporting.results import write_csv
from metaser.runtime.files import write_text

NAMES = {
    "fmaml": "F-MAML", "fomaml": "FOMAML, all classes alike", "supervised": "supervised, support only",
    "zero-shot": "supervised, other languages", "tuned-head": "… head fine-tuned", "tuned-all": "… all fine-tuned",
    "protonet": "Prototypical network", "matching": "Matching network", "relation": "Relation network",
    "classical": "classical (LR × LDA)",
    "best": "best (adapted Gaussian)", "best-inductive": "best, inductive",
}  # fmt: skip
#: The paper describes second-order gradients; its authors' code computes first-order ones, as our rows do, of MAML and F-MAML.
PAPER_NAMES = {"fmaml": "F-MAML", "fomaml": "MAML (first order in its code)", "supervised": "Supervised"}
PAPER_TITLES = {"en": "English (EMOFILM)", "it": "Italian (EMOFILM)", "es": "Spanish (EMOFILM)"}

#: The paper's order of methods, as differences that it says are positive.
CLAIMED = (("fmaml", "fomaml"), ("fomaml", "supervised"), ("fmaml", "supervised"))

#: What goes past the paper, and what it is to be better than.
PAST = (("best", "fmaml"), ("best", "classical"))

#: The column of the mean over the languages.
MEAN = "mean"

#: Figure 3's algorithms.
CONVERGING = ("fmaml", "fomaml")


def run(run: Run) -> None:
    """Trains and tests every cell, writes CSV files, plots and the table."""
    run.carry_out(render)


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """Draws the plots and writes ``paired.csv`` and ``table.md`` from a run's CSV files and ``run.json``."""
    folder, guess, says = finished.folder, finished.constant_answer(), caption(finished)
    tests, names = paired(finished.scores), finished.names(NAMES)
    write_csv(tests, folder / "paired.csv")
    shown = {label: name for label, name in names.items() if label in CONVERGING} or names
    for metric, what in (("loss", "query loss (nats)"), ("accuracy", "query accuracy, all classes")):
        trends.trends(
            finished.metrics, metric, what, finished.targets, shown, says, folder / f"convergence-{metric}.png"
        )
    steps = finished.metrics[finished.metrics["split"] == "steps"]
    if len(steps):
        plots.curves(steps, "accuracy_emotions", ("inner steps", "accuracy, emotions only"), finished.targets, names, says,
                     folder / "steps.png")  # fmt: skip
    plots.bars(finished.summary, metrics(finished), finished.targets, guess, names, says, folder / "accuracy.png")
    confusions = finished.confusions()
    drawn = {key: counts for key, counts in confusions.items() if key[0].split(", ")[1] in shown}
    plots.confusions(drawn or confusions, says, folder / "confusion.png")
    write_text(folder / "table.md", table(finished, paper, tests, names))


def metrics(finished: Finished) -> dict[str, str]:
    """The two accuracies of the table, with the number of classes that each counts."""
    ways, fixed = finished.first.tasks.ways, finished.first.tasks.fixed
    return {"accuracy": f"accuracy, {ways + len(fixed)} classes (as the paper counts)",
            "accuracy_emotions": f"accuracy, {ways} emotions only"}  # fmt: skip


def caption(finished: Finished) -> str:
    """What the numbers are of; synthetic data are never shown without that word."""
    return (
        f"F-MAML and its baselines, {finished.first.tasks.shots}-shot, {finished.what}: each language left out in turn"
    )


def table(finished: Finished, paper: pd.DataFrame, tests: pd.DataFrame, names: dict[str, str]) -> str:
    """``table.md``: ours per protocol, the paper's claims and ours as paired tests, then the paper's numbers."""
    fixed = {f"recall_{name}": f"recall of {name} (fixed)" for name in finished.first.tasks.fixed}
    shown = {**metrics(finished), "macro_f1": "macro-F1, all classes", "uar": "UAR, all classes", **fixed}
    everything, emotions = finished.constant_answer()
    parts = [f"# {caption(finished)}", about(finished)]
    summary, titles = pd.concat([finished.summary, over_languages(finished.scores)]), finished.targets
    if len(titles) > 1:
        titles = {**titles, MEAN: "mean"}
    for protocol, settings in finished.settings.items():
        rows, seen = (frame[frame["protocol"] == protocol] for frame in (summary, tests))
        parts += [
            f"## Ours, protocol `{protocol}`, {finished.kind} data",
            *(tables.metric(rows, metric, title, titles, names) for metric, title in shown.items()),
            f"{settings.evaluation.tasks} test tasks per language and seed, the same for every method; {len(settings.seeds)} "
            f"seed(s), {settings.training.iterations} meta-iterations of {settings.training.meta_batch} tasks; recipe "
            f"`{settings.features.recipe}`, network `{settings.model.name}`, normalisation {settings.features.normalise}, "
            f"speakers {settings.tasks.speakers}, labels {settings.tasks.order}, where a method does not say otherwise. Always "
            f"giving the commonest answer would be right in {100 * everything:.1f} % of all query clips and "
            f"{100 * emotions:.1f} % of the emotions'.",
            claims(seen, CLAIMED, "the paper says positive; points", metrics(finished), finished.targets, names),
            claims(seen, PAST, "past the paper; points", metrics(finished), finished.targets, names),
            NOTE if len(names) > 1 else "",
        ]  # fmt: skip
    parts += ["## The paper's numbers: EmoFilm, accuracy over all classes",
              "Its text describes second-order gradients; its authors' code computes first-order ones, of MAML and F-MAML.",
              tables.published(paper[paper["metric"] == "accuracy"], PAPER_NAMES, PAPER_TITLES)]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def over_languages(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows as of ``summary.csv`` for the mean over the languages, of the methods that were tested on all of them.

    Every language has as many test tasks; the interval is over seeds, or over all tasks where that is wider.
    """
    tested = scores.groupby(["protocol", "algorithm"])["target"].transform("nunique")
    pooled = scores[tested == scores["target"].nunique()].assign(source="", target=MEAN, corpus="")
    return tables.summarise(pooled, pd.DataFrame(columns=list(tables.PAPER_COLUMNS)))


def about(finished: Finished) -> str:
    """Which data, and how far they can be compared with the paper's."""
    intervals = ("Mean ± half width of the 95 % interval (Student's t; over seeds where there are several, over tasks "
                 "where that is wider; with one seed it covers the test tasks only). Silence is generated noise.")  # fmt: skip
    if finished.kind == "synthetic":
        return (f"**These data are SYNTHETIC**: invented languages made by metaser. The numbers show that the path works; "
                f"they say nothing about speech and cannot be compared with the paper's below. {intervals}")  # fmt: skip
    if finished.collection == "emofilm":
        return f"EmoFilm, the paper's corpus; neutral is borrowed from another corpus. {intervals}"
    return (f"Open corpora, one per language, **not** the paper's EmoFilm: languages and emotions are comparable, numbers "
            f"only roughly. Neutral is each corpus's own. {intervals}")  # fmt: skip


if __name__ == "__main__":
    script(__file__)
