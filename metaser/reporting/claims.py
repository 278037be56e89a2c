"""A paper's claims as paired differences: confirmed, refuted or undecided, pair by pair and target by target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaser.reporting.paired import holm
from metaser.reporting.tables import grid

#: What the cells of `claims` are.
NOTE = (
    "Paired over test tasks. Half width of the 95 % interval over seeds (over tasks where wider), on which the word rests, each "
    "difference for itself; p: Student's paired t over the seeds' means, Holm-corrected over its table."
)


def claims(
    tests: pd.DataFrame, pairs: Sequence[tuple[str, str]], says: str, metrics: Mapping[str, str], titles: Mapping[str, str],
    names: Mapping[str, str],
) -> str:  # fmt: skip
    """Which method is better: differences in points, and whether they are there; nothing where no pair was tested.

    Args:
        tests: Rows of `metaser.reporting.paired.paired`, of one protocol and one set of sources per target.
        pairs: Methods (one, other); one − other is claimed to be positive.
        says: The table's first head: whose claim it is, and the unit.
        metrics: Metric → how the table names it.
        titles: Target → how the table names it; in this order.
        names: Algorithm → how the table names it.
    """
    signs = dict.fromkeys(pairs, 1) | {pair[::-1]: -1 for pair in pairs}
    wanted = [pair in signs for pair in zip(tests["algorithm"], tests["against"], strict=True)]
    tests = tests[
        np.array(wanted, dtype=bool) & tests["metric"].isin(list(metrics)) & tests["target"].isin(list(titles))
    ]
    cells = {}
    for cell, p in zip(tests.to_dict("records"), holm(tests["p_seeds"].to_numpy(float)), strict=True):
        pair = cell["algorithm"], cell["against"]
        row = pair if pair in pairs else pair[::-1], cell["metric"]
        cells[row, cell["target"]] = verdict(cell, signs[pair], p)
    tested = {row for row, _ in cells}
    rows = {(pair, metric): f"{names[pair[0]]} − {names[pair[1]]}: {what}" for pair in pairs for metric, what in metrics.items()
            if (pair, metric) in tested}  # fmt: skip
    return grid(says, rows, titles, cells) if rows else ""


def verdict(cell: Mapping[Any, Any], sign: int, p: float) -> str:
    """A difference, its interval, whether it is confirmed by that, and its corrected p."""
    gap, width = float(cell["difference"]) * sign, float(cell["ci95"])
    found = "undecided" if not abs(gap) > width else "confirmed" if gap > 0 else "refuted"
    shown = f"{100 * gap:+.1f}" + (f" ± {100 * width:.1f}" if width == width else "")
    return f"{shown}, {found}" + (f" (p = {p:.2g})" if p == p else "")
