"""The paper's own table: all of its values for a variant, whether there is one of ours beside each or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from metaser.reporting.page.compare import is_share, printed


@dataclass(frozen=True)
class PaperTable:
    """One metric as published.

    Attributes:
        title: The metric, with its unit.
        columns: What the values are of.
        rows: (method, values as printed).
        references: Where they are printed.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    references: list[str]


def as_published(paper: pd.DataFrame, titles: Mapping[str, str], names: Mapping[str, str]) -> list[PaperTable]:
    """A table per metric: methods as rows, targets as columns, in the order of ``paper.csv``.

    Args:
        paper: Rows of one variant, as `metaser.reporting.tables.read_paper` gives them.
        titles: Metric → its title.
        names: Algorithm → its name.
    """
    found = []
    for metric, rows in paper.groupby("metric", sort=False):
        places = list(dict.fromkeys(zip(rows["target"], rows["corpus"], strict=True)))
        values = {(row["algorithm"], row["target"], row["corpus"]): printed(str(metric), row["value"])
                  for row in rows.to_dict("records")}  # fmt: skip
        lines = [(names.get(label, label), [values.get((label, *place), "–") for place in places])
                 for label in dict.fromkeys(rows["algorithm"])]  # fmt: skip
        columns = [target if target == corpus else f"{target} ({corpus})" for target, corpus in places]
        title = titles.get(str(metric), str(metric)) + (", %" if is_share(str(metric)) else "")
        found.append(PaperTable(title, columns, lines, list(dict.fromkeys(rows["reference"]))))
    return found
