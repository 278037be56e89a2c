"""F-MAML (arXiv 2101.01356), Tables 2 to 4: every language left out in turn, 5-, 10- or 20-shot.

metaser run experiments/fmaml --variant 5shot
"""

from __future__ import annotations

import pandas as pd

from metaser.experiment import Run
from metaser.reporting import plots, results, tables

NAMES = {"fmaml": "F-MAML", "maml": "MAML", "supervised": "Supervised"}
PAPER_TITLES = {"en": "English (EMOFILM)", "it": "Italian (EMOFILM)", "es": "Spanish (EMOFILM)"}


def run(run: Run) -> None:
    """Trains and tests every cell, then writes CSV, plots and the table."""
    with run.results.writing() as folder:
        run.all_cells()
        summary = run.summary()
        results.write_csv(summary, folder / "summary.csv")
        results.write_csv(run.timing(), folder / "timing.csv")
        results.write_csv(confusion_rows(run), folder / "confusion.csv")
        results.write_json(run.run_json(), folder / "run.json")
        titles, tasks = run.targets, run.first.tasks
        chance = (1 / (tasks.ways + len(tasks.fixed)), 1 / tasks.ways)
        plots.curves(pd.read_csv(folder / "metrics.csv"), titles, caption(run), folder / "curves.png")
        plots.bars(summary, metrics(run), titles, chance, caption(run), folder / "accuracy.png")
        plots.confusions(confusion_matrices(run), caption(run), folder / "confusion.png")
        (folder / "table.md").write_text(table(run, summary), encoding="utf-8")
    print((run.results.final / "table.md").read_text(encoding="utf-8"))
    pace = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.pace().items())
    print(f"time per 100 epochs (meta-iterations): {pace}\nwritten to {run.results.final}")


def metrics(run: Run) -> dict[str, str]:
    """The two accuracies of the table, with the number of classes that each counts."""
    ways, fixed = run.first.tasks.ways, run.first.tasks.fixed
    return {"accuracy": f"accuracy, {ways + len(fixed)} classes (as the paper counts)",
            "accuracy_emotions": f"accuracy, {ways} emotions only"}  # fmt: skip


def caption(run: Run) -> str:
    """What the numbers are of; synthetic data are never shown without that word."""
    kind = "real speech" if run.speech.kind == "real" else "SYNTHETIC data"
    return f"F-MAML, {run.first.tasks.shots}-shot, {kind}: each language left out in turn"


def confusion_matrices(run: Run) -> dict[tuple[str, str], pd.DataFrame]:
    """Counts of all seeds by (protocol, target)."""
    summed: dict[tuple[str, str], pd.DataFrame] = {}
    for cell, counts in run.confusions.items():
        key = (cell.protocol, run.targets[cell.target])
        summed[key] = summed[key] + counts if key in summed else counts
    return summed


def confusion_rows(run: Run) -> pd.DataFrame:
    """Every cell's confusion matrix as rows (true, predicted, count)."""
    frames = [
        counts.rename_axis("true").reset_index().melt("true", var_name="predicted", value_name="count")
        .assign(**run.keys(cell), seed=cell.seed)
        for cell, counts in run.confusions.items()
    ]  # fmt: skip
    return pd.concat(frames)[[*results.KEYS, "seed", "true", "predicted", "count"]]


def table(run: Run, summary: pd.DataFrame) -> str:
    """``table.md``: ours per protocol, then the paper's."""
    fixed = {f"recall_{name}": f"recall of {name} (fixed)" for name in run.first.tasks.fixed}
    shown = {**metrics(run), **fixed, "macro_f1": "macro-F1, all classes", "uar": "UAR, all classes"}
    chance = 100 / run.first.tasks.ways
    parts = [f"# {caption(run)}", about(run)]
    for protocol, settings in run.settings.items():
        rows = summary[summary["protocol"] == protocol]
        parts += [
            f"## Ours, protocol `{protocol}`, {'synthetic' if run.speech.kind == 'synthetic' else 'real'} data",
            tables.ours(rows, shown, run.targets, NAMES),
            f"{settings.evaluation.tasks} test tasks per language and seed, {len(settings.seeds)} seed(s), "
            f"{settings.training.iterations} meta-iterations of {settings.training.meta_batch} tasks; recipe "
            f"`{settings.features.recipe}`, network `{settings.model.name}`, normalisation {settings.features.normalise}, "
            f"speakers {settings.tasks.speakers}, labels {settings.tasks.order}. Guessing gives {chance:.1f} % of the "
            f"emotions.",
        ]  # fmt: skip
    parts += ["## The paper's numbers: EmoFilm, accuracy over all classes",
              tables.published(run.paper[run.paper["metric"] == "accuracy"], NAMES, PAPER_TITLES)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def about(run: Run) -> str:
    """Which data, and how far they can be compared with the paper's."""
    intervals = ("Mean ± half width of the 95 % interval (Student's t; over seeds where there are several, over tasks "
                 "where that is wider; with one seed it covers the test tasks only). Silence is generated noise.")  # fmt: skip
    if run.speech.kind == "synthetic":
        return (f"**These data are SYNTHETIC**: invented languages made by metaser. The numbers show that the path works; "
                f"they say nothing about speech and cannot be compared with the paper's below. {intervals}")  # fmt: skip
    if run.speech.collection == "emofilm":
        return f"EmoFilm, the paper's corpus; neutral is borrowed from another corpus. {intervals}"
    return (f"Open corpora, one per language, **not** the paper's EmoFilm: languages and emotions are comparable, numbers "
            f"only roughly. Neutral is each corpus's own. {intervals}")  # fmt: skip
