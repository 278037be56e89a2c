"""A run's numbers as Markdown tables: the paper's beside ours, then all of ours, then the confusion matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def verdict(mean: float, ci95: float, paper: float) -> str:
    """Whether ``mean ± ci95`` covers a published value, or lies above or below it: a key of `SIGNS`."""
    if ci95 != ci95:
        return "no interval"
    gap = round(mean - paper, DIGITS)
    if abs(gap) <= round(ci95, DIGITS):
        return "covers"
    return "above" if gap > 0 else "below"


def compare(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Every published value beside all of our numbers for the same method, target and metric.

    Args:
        ours: Rows of ``summary.csv`` and ``timing.csv``, with a column ``judged``; ``paper`` is of the very same corpus.
        paper: Rows of ``paper.csv`` of the run's variant. Values that only ``ours`` still has are compared, too.

    Returns:
        The rows of ``ours`` with ``value``, ``corpus`` and ``reference`` as published, ``other`` (whether it is of another corpus)
        and ``verdict`` (a key of `SIGNS`, or nothing); where there is nothing of ours, ``mean`` is NaN.
    """
    known = (
        ours[ours["paper"].notna()]
        .rename(columns={"paper": "value"})
        .drop_duplicates(KEY)
        .assign(corpus="", reference="")
    )
    known = known[~known.set_index(KEY).index.isin(paper.set_index(KEY).index)]
    published = pd.concat([frame[[*KEY, "value", "corpus", "reference"]] for frame in (paper, known)])
    found = published.merge(ours, how="left", on=KEY).fillna({"protocol": "", "source": "", "judged": False})
    cells = zip(found["mean"], found["ci95"], found["value"], found["judged"], strict=True)
    return found.assign(
        other=(found["paper"] - found["value"]).round(DIGITS) != 0,
        verdict=[verdict(mean, ci95, value) if judged else "" for mean, ci95, value, judged in cells],
    )


def beside(found: pd.DataFrame, names: Names) -> str:
    """What `compare` found as a table."""
    lines = []
    for row in found.to_dict("records"):
        corpus = f" ({escaped(row['corpus'])})" if row["other"] else ""
        judged = f" {SIGNS[row['verdict']]} {row['verdict']}{OTHER * row['other']}" if row["verdict"] else ""
        number = shown(row["metric"], row["mean"], row["ci95"]) if row["mean"] == row["mean"] else "–"
        lines.append([names.row(row), names.target(row["target"]), row["protocol"],
                      printed(row["metric"], row["value"]) + corpus, number + judged, escaped(row["reference"])])  # fmt: skip
    return markdown(["metric: method", "on", "our protocol", "published", "ours", "printed in"], lines)


def tally(found: pd.DataFrame) -> str:
    """How many published values our intervals cover, lie above and below, by protocol and corpus; empty if none is judged."""
    parts = []
    for (protocol, other), rows in found[found["verdict"] != ""].groupby(["protocol", "other"]):
        count = rows["verdict"].value_counts()
        said = [
            f"{sign} {count.get(word, 0)} {word}"
            for word, sign in SIGNS.items()
            if word in count or word != "no interval"
        ]
        parts.append(f"{protocol and f'{protocol}: '}{', '.join(said)}{OTHER if other else ''}")
    return "; ".join(parts)


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
