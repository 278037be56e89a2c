"""Our numbers beside the paper's: whether our interval covers the published value, and tables that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from metaser.reporting.tables import percent

#: Where our interval lies, as seen from the published value, and the sign that says so without a colour.
SIGNS = {"covers": "≈", "above": "▲", "below": "▼", "no interval": "?"}

#: Results files have so many digits; what is nearer than that is equal.
DIGITS = 6

#: Metrics that are shares, shown in per cent; so are all recalls.
SHARES = ("accuracy", "accuracy_emotions", "macro_f1", "weighted_f1", "uar", "f1")


@dataclass(frozen=True)
class Published:
    """A published value.

    Attributes:
        value: As ``paper.csv`` has it.
        corpus: What it is of.
        reference: Where it is printed.
    """

    value: float
    corpus: str
    reference: str


@dataclass(frozen=True)
class Score:
    """One number of ours.

    Attributes:
        ours: Mean and half width of the 95 % interval; a dash where there is none.
        verdict: A key of `SIGNS`; empty where nothing is compared.
        paper: The published value.
        corpus: What the published value is of, where that is not what ours is of.
    """

    ours: str = "–"
    verdict: str = ""
    paper: str = ""
    corpus: str = ""


@dataclass(frozen=True)
class Table:
    """A metric of one protocol.

    Attributes:
        metric: As results files name it.
        title: As a reader does, with its unit.
        columns: Titles of the targets.
        published: For each column, whether it has a published value.
        groups: (title, rows), a row being (method, cells); one without a title where all have the same sources.
        references: Where the published values are printed.
    """

    metric: str
    title: str
    columns: list[str]
    published: list[bool]
    groups: list[tuple[str, list[tuple[str, list[Score]]]]]
    references: list[str]

    @property
    def cells(self) -> list[Score]:
        """All of them."""
        return [cell for _, rows in self.groups for _, cells in rows for cell in cells]


def verdict(mean: float, ci95: float, paper: float) -> str:
    """Whether ``mean ± ci95`` covers a published value, or lies above or below it: a key of `SIGNS`."""
    if ci95 != ci95:
        return "no interval"
    gap = round(mean - paper, DIGITS)
    if abs(gap) <= round(ci95, DIGITS):
        return "covers"
    return "above" if gap > 0 else "below"


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1, and is shown in per cent."""
    return metric in SHARES or metric.startswith("recall_")


def shown(metric: str, mean: float, ci95: float) -> str:
    """One of our numbers: "42.3 ± 1.1" in per cent, "1.925 ± 0.395" for what is no share."""
    if is_share(metric):
        return percent(mean, ci95)
    return f"{mean:.3f} ± {ci95:.3f}" if ci95 == ci95 else f"{mean:.3f}"


def printed(metric: str, value: float) -> str:
    """A published value: "42.30" in per cent, with all its digits where it is no share."""
    return f"{100 * value:.2f}" if is_share(metric) else f"{value:.10g}"


def compare(
    rows: pd.DataFrame, metrics: Mapping[str, str], titles: Mapping[str, str], names: Mapping[str, str],
    published: Mapping[tuple[str, str, str], Published], judged: bool = True,
) -> list[Table]:  # fmt: skip
    """A table per metric: methods as rows, targets as columns; nothing for a metric that is not there.

    Args:
        rows: Of one protocol, with the columns `metaser.reporting.results.SUMMARY`; ``paper`` is of the very same cell.
        metrics: Metric → its title.
        titles: Target → its title.
        names: Algorithm → its name, in this order; others follow with their labels.
        published: (algorithm, target, metric) → what was published, maybe on another corpus.
        judged: Whether to say which values our intervals cover; times of another machine are only set beside ours.
    """
    labels = {**names, **{label: label for label in rows["algorithm"] if label not in names}}
    keys = rows[["algorithm", "target", "source", "shots"]].drop_duplicates()
    several = keys.duplicated(["algorithm", "target"]).any()
    places = list(dict.fromkeys(zip(keys["source"], keys["shots"], strict=True))) if several else [None]
    found = []
    for metric, title in metrics.items():
        here = rows[rows["metric"] == metric]
        cells, references = {}, []
        for row in here.to_dict("records"):
            known = published.get((row["algorithm"], row["target"], metric))
            at = (row["source"], row["shots"]) if several else None
            cells[at, row["algorithm"], row["target"]] = cell(row, known, judged)
            if known:
                references.append(f"{known.reference} (on {known.corpus})")
        targets = [target for target in titles if target in set(here["target"])]
        groups = [(place_title(place, places), lines(cells, place, labels, targets)) for place in places]
        groups = [(head, body) for head, body in groups if body]
        if groups:
            has = [any(c.paper for (_, _, to), c in cells.items() if to == target) for target in targets]
            found.append(Table(metric, title, [titles[target] for target in targets], has, groups,
                               list(dict.fromkeys(references))))  # fmt: skip
    return found


Place = tuple[str, int] | None


def cell(row: Mapping[Any, Any], known: Published | None, judged: bool) -> Score:
    """A row of ``summary.csv`` as a cell; its own published value goes before one of another corpus."""
    metric, mean, ci95, own = (row[name] for name in ("metric", "mean", "ci95", "paper"))
    ours = shown(metric, mean, ci95)
    if own == own:
        value, corpus = own, ""
    elif known:
        value, corpus = known.value, known.corpus
    else:
        return Score(ours)
    return Score(ours, verdict(mean, ci95, value) if judged else "", printed(metric, value), corpus)


def lines(
    cells: Mapping[tuple[Place, str, str], Score], place: Place, labels: Mapping[str, str], targets: Sequence[str]
) -> list[tuple[str, list[Score]]]:
    """The rows of one place: (method, a cell per target), of the methods that have any."""
    rows = [(name, [cells.get((place, label, target)) for target in targets]) for label, name in labels.items()]
    return [(name, [one or Score() for one in row]) for name, row in rows if any(row)]


def place_title(place: Place, places: Sequence[Place]) -> str:
    """Sources, and shots where they differ, as the head of a group of rows."""
    if place is None:
        return ""
    several = len({other[1] for other in places if other}) > 1
    return f"from {place[0].replace('+', ' + ')}" + (f", {place[1]} shots" if several else "")


def tally(tables: Iterable[Table]) -> list[tuple[bool, dict[str, int]]]:
    """How many published values our intervals cover, lie above and below: (on another corpus, verdict → count)."""
    cells = [one for table in tables for one in table.cells if one.verdict]
    counts = {other: Counter(one.verdict for one in cells if bool(one.corpus) == other) for other in (False, True)}
    return [(other, {word: count[word] for word in SIGNS if word != "no interval" or count[word]})
            for other, count in counts.items() if count]  # fmt: skip
