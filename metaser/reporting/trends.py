"""Trends over meta-iterations, where each curve is best, and what that says of claims about algorithms.

The training optimum is where the training loss, smoothed over `SMOOTH` points of its curve, is least; the test optimum is
where the test metric is best. A model chosen by its training curve is taken at the point of the test curve nearest to the
training optimum; how much it loses by that is the gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from metaser.reporting.paired import student
from metaser.reporting.plots import colour, limits, panels
from metaser.reporting.plots import curve as draw
from metaser.training.evaluation import mean_interval

#: Points of the training curve over which its loss is averaged before its least value is looked for.
SMOOTH = 5

#: Columns of ``optima.csv``.
OPTIMA = ("protocol", "algorithm", "target", "seed", "train_optimum", "test_optimum", "best", "at_train_optimum", "gap",
          "distance", "diverged_at", "last")  # fmt: skip

#: The power for which a detectable difference is given.
POWER = 0.8


def optima(metrics: pd.DataFrame, targets: Sequence[str], metric: str = "macro_f1") -> pd.DataFrame:
    """Where every model's training and test curves are best.

    Args:
        metrics: Rows of ``metrics.csv``.
        targets: The domains with a test curve.
        metric: The test curve's; larger is better.

    Returns:
        A frame with the columns `OPTIMA`, a row per model and target. ``distance`` is in meta-iterations; a model that
        diverged is judged by its curves up to there, ``diverged_at`` says where, and is NaN for all others. ``last`` is the
        metric on the test tasks after the last meta-iteration, NaN for a model that diverged.
    """
    rows = []
    for (protocol, algorithm, seed), model in metrics.groupby(["protocol", "algorithm", "seed"], sort=False):
        training = model[model["split"] == "train"]
        ends = training.loc[training["metric"] == "diverged", "iteration"]
        losses = curve(training, "loss")
        smooth = losses.rolling(SMOOTH, center=True, min_periods=1).mean()
        for target in targets:
            test = curve(model[(model["split"] == "monitor") & (model["target"] == target)], metric)
            if losses.empty or test.empty:
                continue
            at, best = int(smooth.index.to_numpy()[smooth.argmin()]), int(test.index.to_numpy()[test.argmax()])
            last = curve(model[(model["split"] == "test") & (model["target"] == target)], metric)
            chosen = test.iloc[int(np.abs(test.index.to_numpy() - at).argmin())]
            rows.append((protocol, algorithm, target, seed, at, best, test.max(), chosen, test.max() - chosen, abs(at - best),
                         ends.iloc[0] if len(ends) else float("nan"), last.iloc[-1] if len(last) else float("nan")))  # fmt: skip
    return pd.DataFrame(rows, columns=list(OPTIMA))


def curve(rows: pd.DataFrame, metric: str) -> pd.Series:
    """One model's curve: iteration → mean."""
    chosen = rows[rows["metric"] == metric]
    return chosen.groupby("iteration")["mean"].mean().sort_index()


def crossing(one: pd.Series, other: pd.Series) -> float:
    """Where a curve overtakes another for good, by linear interpolation; NaN where it does not, or is ahead throughout.

    Args:
        one: Place → value, ascending.
        other: The same places.
    """
    gap = (one - other).dropna()
    behind = np.flatnonzero(gap.to_numpy() <= 0)
    if len(behind) == 0 or behind[-1] == len(gap) - 1:
        return float("nan")
    last = behind[-1]
    (x0, x1), (y0, y1) = gap.index[last : last + 2], gap.iloc[last : last + 2]
    return float(x0 + (x1 - x0) * -y0 / (y1 - y0))


@dataclass(frozen=True)
class Contrast:
    """A paired difference over seeds.

    Attributes:
        mean: Of the differences.
        ci95: Half width of its 95 % interval (Student's t).
        p: Two-sided, Student's paired t; 1 where nothing differs.
        seeds: How many.
        detectable: The difference that as many seeds, as spread as these, find with a power of `POWER` at the 5 % level.
    """

    mean: float
    ci95: float
    p: float
    seeds: int
    detectable: float

    def verdict(self, sign: float) -> str:
        """Whether a difference of that sign is there: ``yes``, ``no`` (one of the other sign is), ``undecided``."""
        if not abs(self.mean) > self.ci95:  # NaN, too
            return "undecided"
        return "yes" if self.mean * sign > 0 else "no"


def contrast(frame: pd.DataFrame, column: str, one: str, other: str) -> Contrast:
    """``one`` less ``other`` in a column, paired by seed, the mean over targets first.

    Args:
        frame: One protocol's rows: ``algorithm``, ``seed``, ``target`` and the column.
        column: What is compared.
        one: An algorithm's label.
        other: Another's.
    """
    values = by_seed(frame, column, (one, other))
    return over_seeds((values[one] - values[other]).to_numpy(float))


def slope(frame: pd.DataFrame, column: str, order: Sequence[str]) -> Contrast:
    """How a column changes from one algorithm to the next: every seed's least-squares slope, the mean over targets first.

    Args:
        frame: As `contrast` takes it; seeds that lack an algorithm are left out.
        column: What is looked at.
        order: Two or more algorithms' labels.
    """
    values = by_seed(frame, column, order)
    return over_seeds(np.array([np.polyfit(range(len(order)), row, 1)[0] for row in values.to_numpy(float)]))


def by_seed(frame: pd.DataFrame, column: str, algorithms: Sequence[str]) -> pd.DataFrame:
    """A row per seed that has all of the algorithms, a column per algorithm: the means over targets."""
    means = frame.groupby(["seed", "algorithm"])[column].mean().unstack()
    return means.reindex(columns=list(algorithms)).dropna()


def over_seeds(gaps: np.ndarray) -> Contrast:
    """The contrast of ``(seeds,)`` differences."""
    count = len(gaps)
    if count < 2:
        return Contrast(float(gaps.mean()) if count else float("nan"), float("nan"), float("nan"), count, float("nan"))
    factor = float(stats.t.ppf(0.975, count - 1) + stats.t.ppf(POWER, count - 1))
    return Contrast(*mean_interval(gaps), student(gaps), count, factor * float(stats.sem(gaps)))


def trends(
    metrics: pd.DataFrame, metric: str, label: str, titles: Mapping[str, str], names: Mapping[str, str], caption: str,
    path: Path, found: pd.DataFrame | None = None,
) -> None:  # fmt: skip
    """All algorithms on one axis each: training, then a panel per target; a row per protocol.

    Args:
        metrics: Rows of ``metrics.csv``.
        metric: Which; on the training axis ``macro_f1`` has no curve and accuracy stands in.
        label: Of the vertical axis.
        titles: Target → its panel's title.
        names: Algorithm → its name in the legend.
        caption: What the data are.
        path: The PNG to write.
        found: As `optima` gives it, to mark both optima's means over seeds.
    """
    note = "; marks: mean training (▽) and test (△) optimum" if found is not None else ""
    caption = f"{caption}\nmean over seeds, band: its 95 % interval{note}; the test curve chooses nothing"
    protocols, columns = list(metrics["protocol"].unique()), {"": "training tasks (sources)", **titles}
    labels = "meta-iteration (epoch)", label
    for axis, protocol, target in panels(protocols, columns, (5, 3.8), labels, caption, path):
        here = metrics[metrics["protocol"] == protocol]
        split = here[(here["split"] == "monitor") & (here["target"] == target) if target else here["split"] == "train"]
        for number, (algorithm, name) in enumerate(names.items()):
            points = split[(split["algorithm"] == algorithm) & (split["metric"] == metric)].groupby("iteration")["mean"]
            line, width = points.mean(), points.agg(lambda values: mean_interval(values.to_numpy())[1])
            draw(axis, line, *limits(line, width, metric), name, number)
            if found is not None:
                marks(
                    axis,
                    line,
                    found[(found["protocol"] == protocol) & (found["algorithm"] == algorithm)],
                    target,
                    colour(number),
                )
        ends = here[(here["metric"] == "diverged") & here["algorithm"].isin(list(names))]
        if len(ends) and not target:
            axis.plot([], [], "kx", label="diverged, a model each")
            for number, algorithm in enumerate(names):
                for at in ends.loc[ends["algorithm"] == algorithm, "iteration"]:
                    axis.axvline(at, color=colour(number), linestyle=":", linewidth=1)
                    axis.plot([at], [0.97], "x", color=colour(number), transform=axis.get_xaxis_transform())


def marks(axis: Axes, line: pd.Series, found: pd.DataFrame, target: str, shade: str) -> None:
    """Both optima's means over seeds, on the line."""
    rows = found[found["target"] == target] if target else found
    for column, shape in (("train_optimum", "v"), ("test_optimum", "^")):
        if len(rows) and len(line):
            at = float(rows[column].mean())
            axis.plot([at], [np.interp(at, line.index.to_numpy(float), line.to_numpy())], shape, color=shade, markersize=7,
                      markeredgecolor="white")  # fmt: skip
