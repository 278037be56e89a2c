"""``summary.csv`` from the test scores, and the Markdown table next to the paper's numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metaser.reporting.results import KEYS, SUMMARY
from metaser.runtime.errors import UserError, first_line
from metaser.training.evaluation import seeded_interval

#: The target, and the column, of the mean over all targets.
MEAN = "mean"

#: Metrics that lie between 0 and 1; so do all recalls.
SHARES = ("accuracy", "accuracy_emotions", "macro_f1", "weighted_f1", "uar", "f1")

PAPER_COLUMNS = ("variant", "algorithm", "corpus", "target", "metric", "value", "reference")


def summarise(scores: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and metric: mean, 95 % interval, tasks and seeds, and the published value where there is one.

    Args:
        scores: One row per test task: `KEYS`, ``seed``, ``corpus`` (of the target), and one column per metric.
        paper: As `read_paper` gives it. A value is set beside ours only where variant, algorithm, the target's
            corpus, the target and the metric are all the paper's.

    Returns:
        A frame with the columns `SUMMARY`.
    """
    metrics = [column for column in scores.columns if column not in (*KEYS, "seed", "corpus", "task")]
    published = {tuple(row[:5]): row[5] for row in paper[list(PAPER_COLUMNS)].itertuples(index=False)}
    rows = []
    for keys, cell in scores.groupby([*KEYS, "corpus"], sort=False):
        named = dict(zip((*KEYS, "corpus"), keys, strict=True))
        for metric in metrics:
            values = cell[["seed", metric]].dropna()
            if values.empty:
                continue
            mean, ci95 = seeded_interval(values[metric].to_numpy(), values["seed"].to_numpy())
            place = tuple(named[key] for key in ("variant", "algorithm", "corpus", "target"))
            rows.append({**named, "metric": metric, "mean": mean, "ci95": ci95, "n_tasks": len(values),
                         "n_seeds": values["seed"].nunique(), "paper": published.get((*place, metric))})  # fmt: skip
    return pd.DataFrame(rows, columns=list(SUMMARY)).astype({"paper": float})


def over_targets(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows as of ``summary.csv`` for the mean over the targets, of the methods that were tested on all of them.

    Every target has as many test tasks; the interval is over seeds, or over all tasks where that is wider.

    Args:
        scores: As `summarise` takes them.
    """
    tested = scores.groupby(["protocol", "algorithm"])["target"].transform("nunique")
    pooled = scores[tested == scores["target"].nunique()].assign(source="", target=MEAN, corpus="")
    return summarise(pooled, pd.DataFrame(columns=list(PAPER_COLUMNS)))


def read_paper(path: Path) -> pd.DataFrame:
    """An experiment's ``paper.csv``: the published numbers, shares between 0 and 1, each with its reference.

    Raises:
        UserError: naming the file, if it cannot be read or lacks a column.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({first_line(error)})") from None
    missing = [column for column in PAPER_COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(f"{path}: lacks the column {missing[0]}; needed: {', '.join(PAPER_COLUMNS)}")
    if not isinstance(frame.index, pd.RangeIndex):
        raise UserError(f"{path}: has rows with more fields than the header; quote what has a comma in it")
    values = pd.to_numeric(frame["value"], errors="coerce")
    twice = frame.duplicated(list(PAPER_COLUMNS[:5]))
    for wrong, reason in ((~np.isfinite(values), "the value is no number"), (twice, "this cell is there twice")):
        if wrong.any():
            raise UserError(f"{path}, row {int(wrong.to_numpy().argmax()) + 2}: {reason}")
    return frame.assign(value=values)


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1, and is shown in per cent."""
    return metric in SHARES or metric.startswith("recall_")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escaped(text: object) -> str:
    """Text that Markdown takes for nothing else, in one line."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split()))


def grid(corner: str, rows: Mapping[Any, str], columns: Mapping[Any, str], cells: Mapping[Any, str]) -> str:
    """A Markdown table of the cells by (row, column), with the names of both; a dash where there is none."""
    lines = [[name, *(cells.get((row, column), "–") for column in columns)] for row, name in rows.items()]
    return markdown([corner, *columns.values()], lines)


def percent(mean: float, ci95: float) -> str:
    """``0.4234, 0.011`` as "42.3 ± 1.1"."""
    return f"{100 * mean:.1f} ± {100 * ci95:.1f}" if ci95 == ci95 else f"{100 * mean:.1f}"


def ours(summary: pd.DataFrame, metrics: Mapping[str, str], titles: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Our numbers of one protocol: algorithms and metrics as rows, targets as columns, in per cent.

    Args:
        summary: The rows of that protocol.
        metrics: Metric → how the table names it; in this order.
        titles: Target → how the table names it; in this order.
        names: Algorithm → how the table names it; its own label where it has none.
    """
    rows = {(label, metric): f"{names.get(label, label)}: {title}" for label in dict.fromkeys(summary["algorithm"])
            for metric, title in metrics.items()}  # fmt: skip
    return grid("%", rows, titles, percents(summary, ["algorithm", "metric"]))


def metric(
    summary: pd.DataFrame, name: str, title: str, titles: Mapping[str, str], names: Mapping[str, str]
) -> str:  # fmt: skip
    """The same of one metric: algorithms as rows, targets as columns; ``names`` says which algorithms, in its order."""
    return grid(f"{title}, %", names, titles, percents(summary[summary["metric"] == name], ["algorithm"]))


def percents(summary: pd.DataFrame, row: Sequence[str]) -> dict[Any, str]:
    """Cells of `grid`: (the columns that make a row, target) → mean and interval in per cent."""
    by = summary.set_index(list(row))
    return {(key, target): percent(mean, ci95)
            for key, target, mean, ci95 in zip(by.index, by["target"], by["mean"], by["ci95"], strict=True)}  # fmt: skip


def published(paper: pd.DataFrame, names: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """The paper's own table for one variant, in per cent, its targets as columns in the paper's order."""
    rows, columns = ({label: known.get(label, label) for label in paper[column].unique()}
                     for column, known in (("algorithm", names), ("target", titles)))  # fmt: skip
    values = zip(paper["algorithm"], paper["target"], paper["value"], strict=True)
    return grid("%", rows, columns, {(label, target): f"{100 * value:.2f}" for label, target, value in values})
