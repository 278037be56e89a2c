"""A run's numbers as Markdown tables: the paper's beside ours, then all of ours, then the confusion matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from metaser.reporting.page.naming import Names
from metaser.reporting.tables import escaped, grid, is_share, markdown, percent

#: Where our interval lies, as seen from the published value, and the sign that says so without a colour.
SIGNS = {"covers": "≈", "above": "▲", "below": "▼", "no interval": "?"}

#: After the verdict, where the published value is of another corpus than ours.
OTHER = " (other corpus)"

#: Results files have so many digits; what is nearer than that is equal.
DIGITS = 6

#: The first head of a confusion matrix.
MATRIX = "true \\ predicted, %"

KEY = ["algorithm", "target", "metric"]


@dataclass(frozen=True)
class Comparison:
    """A published value and one of our numbers, if there is one.

    Attributes:
        protocol: Of ours.
        row: What is compared: metric, method and, where a method has several, its sources.
        target: The title of what it is tested on.
        published: The value as printed, with its corpus where ours is of another.
        ours: Our mean with its interval; empty where there is none.
        verdict: A key of `SIGNS`; empty where nothing is judged, such as times of another machine.
        other: Whether the published value is of another corpus.
        reference: Where the value is printed.
    """

    protocol: str
    row: str
    target: str
    published: str
    ours: str
    verdict: str
    other: bool
    reference: str

    @property
    def cell(self) -> str:
        """Our number with its verdict."""
        judged = f" {SIGNS[self.verdict]} {self.verdict}{OTHER * self.other}" if self.verdict else ""
        return (self.ours or "–") + judged


def verdict(mean: float, ci95: float, paper: float) -> str:
    """Whether ``mean ± ci95`` covers a published value, or lies above or below it: a key of `SIGNS`."""
    if ci95 != ci95:
        return "no interval"
    gap = round(mean - paper, DIGITS)
    if abs(gap) <= round(ci95, DIGITS):
        return "covers"
    return "above" if gap > 0 else "below"


def compare(ours: pd.DataFrame, paper: pd.DataFrame, names: Names) -> list[Comparison]:
    """Every published value beside all of our numbers for the same method, target and metric.

    Args:
        ours: Rows of ``summary.csv`` and ``timing.csv``, with a column ``judged``; ``paper`` is of the very same corpus.
        paper: Rows of ``paper.csv`` of the run's variant. Values that only ``ours`` still has are compared, too.
        names: What methods, metrics and targets are called.
    """
    known = (
        ours[ours["paper"].notna()]
        .rename(columns={"paper": "value"})
        .drop_duplicates(KEY)
        .assign(corpus="", reference="")
    )
    known = known[~known.set_index(KEY).index.isin(paper.set_index(KEY).index)]
    published = pd.concat([frame[[*KEY, "value", "corpus", "reference"]] for frame in (paper, known)])
    found = []
    for row in (
        published.merge(ours, how="left", on=KEY)
        .fillna({"protocol": "", "source": "", "judged": False})
        .to_dict("records")
    ):
        metric, mean, ci95, value = (row[name] for name in ("metric", "mean", "ci95", "value"))
        own = round(abs(row["paper"] - value), DIGITS) == 0
        found.append(Comparison(
            row["protocol"], names.row(row), names.target(row["target"]),
            printed(metric, value) + ("" if own else f" ({escaped(row['corpus'])})"),
            shown(metric, mean, ci95) if mean == mean else "",
            verdict(mean, ci95, value) if row["judged"] else "", not own, escaped(row["reference"]),
        ))  # fmt: skip
    return found


def beside(found: Iterable[Comparison]) -> str:
    """The comparisons as a table; nothing where nothing was published."""
    rows = [[one.row, one.target, one.protocol, one.published, one.cell, one.reference] for one in found]
    return markdown(["metric: method", "on", "our protocol", "published", "ours", "printed in"], rows) if rows else ""


def tally(found: Iterable[Comparison]) -> str:
    """How many published values our intervals cover, lie above and below, by protocol and corpus; empty if none is judged."""
    counts: dict[tuple[str, bool], Counter[str]] = {}
    for one in found:
        if one.verdict:
            counts.setdefault((one.protocol, one.other), Counter())[one.verdict] += 1
    return "; ".join(
        (f"{protocol}: " if protocol else "")
        + ", ".join(f"{sign} {count[word]} {word}" for word, sign in SIGNS.items() if word != "no interval" or count[word])
        + OTHER * other
        for (protocol, other), count in sorted(counts.items())
    )  # fmt: skip


def everything(rows: pd.DataFrame, targets: Iterable[str], names: Names) -> str:
    """All numbers of one protocol, metric by metric, methods in their usual order; nothing where there are none.

    Args:
        rows: Of ``summary.csv`` or ``timing.csv``.
        targets: The columns, in their order.
        names: What methods, metrics and targets are called.
    """
    order = {label: place for place, label in enumerate(names.methods)}
    metrics = {metric: place for place, metric in enumerate(names.metrics)}
    here = sorted((row for row in rows.to_dict("records") if row["metric"] in metrics),
                  key=lambda row: (metrics[row["metric"]], order.get(row["algorithm"], len(order))))  # fmt: skip
    cells = {(names.row(row), row["target"]): shown(row["metric"], row["mean"], row["ci95"]) for row in here}
    titles = {target: names.target(target) for target in targets if target in set(rows["target"])}
    return grid("metric: method", {row: row for row, _ in cells}, titles, cells) if cells else ""


def matrix(counts: Mapping[str, pd.DataFrame], names: Names) -> str:
    """Confusion matrices of several methods on one target, each row in per cent of its true class.

    Args:
        counts: Algorithm → counts, true classes as rows.
        names: What the methods are called.
    """
    shares = {label: 100 * one.div(one.sum(axis=1), axis=0) for label, one in counts.items()}
    rows = {
        (label, true): f"{names.method(label)}: {escaped(true)}" for label, one in shares.items() for true in one.index
    }
    columns = {name: escaped(name) for one in shares.values() for name in one.columns}
    cells = {((label, true), name): f"{share:.0f}" for label, one in shares.items()
             for true, line in one.iterrows() for name, share in line.items()}  # fmt: skip
    return grid(MATRIX, rows, columns, cells)


def shown(metric: str, mean: float, ci95: float) -> str:
    """One of our numbers: "42.3 ± 1.1" in per cent, "1.925 ± 0.395" for what is no share."""
    if is_share(metric):
        return percent(mean, ci95)
    return f"{mean:.3f} ± {ci95:.3f}" if ci95 == ci95 else f"{mean:.3f}"


def printed(metric: str, value: float) -> str:
    """A published value: "42.30" in per cent, with all its digits where it is no share."""
    return f"{100 * value:.2f}" if is_share(metric) else f"{value:.10g}"
