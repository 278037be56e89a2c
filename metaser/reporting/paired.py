"""Do two algorithms differ? Paired tests on the same test tasks, corrected for their number.

Test tasks are drawn by (seed, stream, index), so every algorithm of a sweep is tested on the very same ones.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from metaser.reporting.results import KEYS
from metaser.training.evaluation import seeded_interval

#: What two cells share that are compared: all but the algorithm.
PLACE = tuple(key for key in KEYS if key != "algorithm")

PAIRED = (*PLACE, "metric", "algorithm", "against", "difference", "ci95", "n_tasks", "n_seeds", "p_seeds", "p_tasks",
          "p_seeds_holm", "p_tasks_holm")  # fmt: skip

#: The fewest seeds whose means are tested.
SEEDS = 3


def paired(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per place, metric and pair of algorithms.

    ``difference`` is algorithm − against, its interval that of `seeded_interval`. ``p_seeds`` is Student's
    paired t over the seeds' means, from three seeds on: seeds are trained independently, so this is what a claim about
    algorithms rests on. ``p_tasks`` is Wilcoxon's signed-rank test over all test tasks: it speaks of the networks at
    hand, not of the next training. The last two are corrected by Holm over all rows of the metric.

    Args:
        scores: One row per test task: `KEYS`, ``seed``, ``corpus``, ``task``, and one column per metric. Recalls of single
            classes are left out.

    Returns:
        A frame with the columns `PAIRED`; no rows where there is one algorithm only.
    """
    metrics = [column for column in scores.columns
               if column not in (*KEYS, "seed", "corpus", "task") and not column.startswith("recall_")]  # fmt: skip
    rows = []
    for place, cells in scores.groupby(list(PLACE), sort=False):
        named = dict(zip(PLACE, place, strict=True))
        grouped = cells.set_index(["seed", "task"]).groupby("algorithm", sort=False)
        tables = {name: frame[metrics] for name, frame in grouped}
        for (one, ours), (other, theirs) in itertools.combinations(tables.items(), 2):
            gaps = ours.sub(theirs)  # NaN where one of them has not been tested
            for metric in metrics:
                gap = gaps[metric].dropna()
                if len(gap):
                    rows.append({**named, "metric": metric, "algorithm": one, "against": other, **compare(gap)})
    frame = pd.DataFrame(rows, columns=list(PAIRED))
    for name in ("p_seeds", "p_tasks"):
        for _, column in frame.groupby("metric")[name]:
            frame.loc[column.index, f"{name}_holm"] = holm(column.to_numpy(float))
    return frame


def compare(gap: pd.Series) -> dict[str, float]:
    """Difference, interval, counts and p values of one metric's differences, indexed by (seed, task)."""
    seeds, values = gap.index.get_level_values("seed").to_numpy(), gap.to_numpy(float)
    means = gap.groupby(level="seed").mean().to_numpy(float)
    difference, ci95 = seeded_interval(values, seeds)
    return {"difference": difference, "ci95": ci95, "n_tasks": len(values), "n_seeds": len(means),
            "p_seeds": student(means) if len(means) >= SEEDS else float("nan"), "p_tasks": wilcoxon(values)}  # fmt: skip


def student(gaps: np.ndarray) -> float:
    """The p value of Student's paired t."""
    return p_value(lambda: stats.ttest_1samp(gaps, 0.0), gaps)


def wilcoxon(gaps: np.ndarray) -> float:
    """The p value of Wilcoxon's signed-rank test, NaN for a single task."""
    return p_value(lambda: stats.wilcoxon(gaps), gaps) if len(gaps) > 1 else float("nan")


def p_value(test: Callable[[], Any], gaps: np.ndarray) -> float:
    """The two-sided p value of a test of differences; 1 where nothing differs."""
    if not gaps.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal differences, whose p is 0, and of few tasks, whose p is large
        return float(test().pvalue)


def holm(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979); NaN is no test and stays NaN."""
    array = np.asarray(values, dtype=float)
    tested = np.flatnonzero(~np.isnan(array))
    order = tested[np.argsort(array[tested], kind="stable")]
    corrected = np.full(len(array), np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(array[order] * np.arange(len(order), 0, -1)))
    return corrected
