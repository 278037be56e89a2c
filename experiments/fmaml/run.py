"""F-MAML (arXiv 2101.01356), Tables 2 to 4: every language left out in turn, 5-, 10- or 20-shot.

metaser run experiments/fmaml --variant 5shot
"""

from __future__ import annotations

import pandas as pd

from metaser.experiment import Run
from metaser.files import write_text
from metaser.reporting import plots, tables
from metaser.reporting.results import Finished

NAMES = {"fmaml": "F-MAML", "maml": "MAML", "supervised": "Supervised"}
PAPER_TITLES = {"en": "English (EMOFILM)", "it": "Italian (EMOFILM)", "es": "Spanish (EMOFILM)"}


def run(run: Run) -> None:
    """Trains and tests every cell, writes CSV files, plots and the table."""
    run.carry_out(render)


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """Draws the plots and writes ``table.md`` from a run's CSV files and ``run.json``."""
    folder, guess = finished.folder, finished.constant_answer()
    shown, says = metrics(finished), caption(finished)
    plots.curves(finished.metrics, finished.targets, says, folder / "curves.png")
    plots.bars(finished.summary, shown, finished.targets, guess, says, folder / "accuracy.png")
    plots.confusions(finished.confusions(), says, folder / "confusion.png")
    write_text(folder / "table.md", table(finished, paper))


def metrics(finished: Finished) -> dict[str, str]:
    """The two accuracies of the table, with the number of classes that each counts."""
    ways, fixed = finished.first.tasks.ways, finished.first.tasks.fixed
    return {"accuracy": f"accuracy, {ways + len(fixed)} classes (as the paper counts)",
            "accuracy_emotions": f"accuracy, {ways} emotions only"}  # fmt: skip


def caption(finished: Finished) -> str:
    """What the numbers are of; synthetic data are never shown without that word."""
    kind = "real speech" if finished.kind == "real" else "SYNTHETIC data"
    return f"F-MAML, {finished.first.tasks.shots}-shot, {kind}: each language left out in turn"


def table(finished: Finished, paper: pd.DataFrame) -> str:
    """``table.md``: ours per protocol, then the paper's."""
    fixed = {f"recall_{name}": f"recall of {name} (fixed)" for name in finished.first.tasks.fixed}
    shown = {**metrics(finished), **fixed, "macro_f1": "macro-F1, all classes", "uar": "UAR, all classes"}
    everything, emotions = finished.constant_answer()
    parts = [f"# {caption(finished)}", about(finished)]
    for protocol, settings in finished.settings.items():
        rows = finished.summary[finished.summary["protocol"] == protocol]
        parts += [
            f"## Ours, protocol `{protocol}`, {finished.kind} data",
            tables.ours(rows, shown, finished.targets, NAMES),
            f"{settings.evaluation.tasks} test tasks per language and seed, {len(settings.seeds)} seed(s), "
            f"{settings.training.iterations} meta-iterations of {settings.training.meta_batch} tasks; recipe "
            f"`{settings.features.recipe}`, network `{settings.model.name}`, normalisation {settings.features.normalise}, "
            f"speakers {settings.tasks.speakers}, labels {settings.tasks.order}. Always giving the commonest answer "
            f"would be right in {100 * everything:.1f} % of all query clips and {100 * emotions:.1f} % of the emotions'.",
        ]  # fmt: skip
    parts += ["## The paper's numbers: EmoFilm, accuracy over all classes",
              tables.published(paper[paper["metric"] == "accuracy"], NAMES, PAPER_TITLES)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


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
