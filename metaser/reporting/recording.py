"""A run's CSV files and ``run.json``, written from what is kept of its models; of some of them where a run is unfinished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from metaser.reporting import results, tables
from metaser.reporting.finished import Finished, draw
from metaser.reporting.folder import ResultsFolder, written
from metaser.reporting.kept import MODELS, Kept
from metaser.runtime.errors import UserError
from metaser.runtime.files import read_json
from metaser.runtime.provenance import described

#: What names a model in ``run.json``.
CHOSEN = ("protocol", "algorithm", "source", "target", "seed")

#: What is kept of models (`metaser.reporting.kept.CONTENT`), in the order of the run.
Models = Sequence[Mapping[str, Any]]

#: An experiment's own drawing of a finished run, with the published numbers for its variant.
Render = Callable[[Finished, pd.DataFrame], None]


def record(models: Models, facts: Mapping[str, Any], paper: pd.DataFrame, folder: Path) -> None:
    """``metrics.csv``, ``tasks.csv`` (the test tasks), ``summary.csv``, ``confusion.csv``, ``timing.csv``, ``run.json``.

    What was measured with a clock is in the latter two, kept apart so that all other files repeat to the byte.

    Args:
        models: What is kept of each.
        facts: What ``run.json`` says of the run as a whole.
        paper: The published numbers.
        folder: Where to write.

    Raises:
        UserError: if no model has a test score, or a file cannot be written.
    """
    rows, scores, counts = (pd.DataFrame([row for model in models for row in model["result"][part]])
                            for part in ("rows", "scores", "confusion"))  # fmt: skip
    if scores.empty:
        raise UserError("every model diverged, so there is nothing to report; lower inner_lr or outer_lr")
    results.write_csv(rows[list(results.METRICS)], folder / "metrics.csv")
    results.write_csv(scores, folder / "tasks.csv")
    results.write_csv(tables.summarise(scores, paper), folder / "summary.csv")
    if len(counts):
        results.write_csv(counts, folder / "confusion.csv")
    results.write_csv(tables.summarise(seconds(models), paper), folder / "timing.csv")
    results.write_json({**facts, **about(models)}, folder / "run.json")


def record_unfinished(folder: Path, paper: pd.DataFrame) -> None:
    """The same in a partial folder, of the models that are finished, marked as incomplete.

    Args:
        folder: The partial folder.
        paper: The published numbers of all variants.

    Raises:
        UserError: if ``run.json`` is not what an unfinished run writes, or no model is finished.
    """
    facts, kept = read_json(folder / "run.json"), Kept(folder)
    names = facts.get("models") if isinstance(facts, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise UserError(f"{folder / 'run.json'}: does not list the models of an unfinished run; run the command again")
    models = [model for name in names if (model := kept.read(name))]
    if not models:
        raise UserError(f"{folder}: none of the {len(names)} models is finished yet; run the command again")
    incomplete = {"finished": len(models), "models": len(names)}
    record(models, {**facts, "incomplete": incomplete}, of_variant(paper, str(facts.get("variant", ""))), folder)


def render(folder: Path, draw_run: Render, paper: pd.DataFrame) -> None:
    """Draws a run's plots and table from its files; of an unfinished one, those of its finished models.

    Args:
        folder: A results folder, or the partial one of an unfinished run.
        draw_run: The experiment's own.
        paper: The published numbers of all its variants.

    Raises:
        UserError: naming the file that is missing or no longer what a run writes, or if the unfinished run is going on.
    """
    models, name = folder / MODELS, folder.resolve().name
    if not models.is_dir() and not name.endswith(".partial"):
        finished = Finished(folder)
        draw(draw_run, finished, of_variant(paper, finished.first.variant))
        return
    if not any(models.glob("*.json")):
        raise UserError(f"{folder}: no model is finished yet; run the command again")
    with ResultsFolder(folder.resolve().with_name(name.removesuffix(".partial"))).held():
        record_unfinished(folder, paper)
        finished, before = Finished(folder), {path.name for path in folder.iterdir()}
        draw(draw_run, finished, of_variant(paper, finished.first.variant))
        new = {path.name for path in folder.iterdir() if path.is_file()} - before
        facts = read_json(folder / "run.json")
        results.write_json({**facts, "files": sorted({*new, *written(folder)})}, folder / "run.json")


def of_variant(paper: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The published numbers of one variant."""
    return paper[paper["variant"] == variant]


def about(models: Models) -> dict[str, Any]:
    """What ``run.json`` says of the models: times, choices, weights, and which processors made them."""
    made = [model["made"] for model in models]
    kinds = Counter(described(one["processor"]) for one in made)
    return {
        "seconds_per_100_epochs": pace(models),
        "chosen": {"/".join(str(model["result"]["seconds"][key]) for key in CHOSEN): model["result"]["chosen"]
                   for model in models if model["result"]["chosen"]},
        "weights_sha256": [model["result"]["weights_sha256"] for model in models],
        "processes": max(one["processes"] for one in made),
        "processors": dict(kinds),
    }  # fmt: skip


def seconds(models: Models) -> pd.DataFrame:
    """Every model's time, also as ``time_ratio`` to the first algorithm's with the same protocol, sources, target, seed."""
    frame, column = pd.DataFrame([model["result"]["seconds"] for model in models]), "seconds_per_100_epochs"
    first = frame.groupby(["protocol", "source", "target", "seed"], sort=False)[column].transform(
        lambda times: times.iloc[0]
    )
    return frame.assign(time_ratio=frame[column] / first)


def pace(models: Models) -> dict[str, float]:
    """ "protocol/algorithm" → median over its models of the seconds per 100 meta-iterations."""
    frame = seconds(models).dropna(subset="seconds_per_100_epochs")  # a model that diverged has no time
    medians = frame.groupby(frame["protocol"] + "/" + frame["algorithm"])["seconds_per_100_epochs"].median()
    return {str(name): round(float(value), 3) for name, value in medians.items()}
