"""The plots of a run: learning curves, accuracies with their intervals, confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaser.reporting.tables import is_share
from metaser.runtime.files import replacing

#: Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG without a date, so that equal plots are equal files, and closes the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight", metadata={"Software": "metaser"})
    plt.close(figure)


def limits(mean: pd.Series, half_width: pd.Series, metric: str) -> tuple[pd.Series, pd.Series]:
    """Both ends of an interval; within 0 and 1 where the metric is a share, which Student's t does not know."""
    low, high = mean - half_width, mean + half_width
    return (low.clip(0, 1), high.clip(0, 1)) if is_share(metric) else (low, high)


def panels(
    protocols: Sequence[str], columns: Mapping[str, str], size: tuple[float, float], labels: tuple[str, str], caption: str,
    path: Path, share: bool | Literal["row"] = False,
) -> Iterator[tuple[Axes, str, str]]:  # fmt: skip
    """Goes through the panels of a figure, a row per protocol; then adds the first panel's legend and writes the figure.

    Args:
        protocols: The rows.
        columns: What differs from column to column → its title.
        size: Of a panel, in inches.
        labels: Of the horizontal axes and of the leftmost vertical ones.
        caption: What the data are.
        path: The PNG to write.
        share: Whether panels share their vertical axis, all of them or those of a row.

    Yields:
        Each panel with its protocol and its column.
    """
    shape = len(protocols), len(columns)
    figure, axes = plt.subplots(*shape, figsize=(size[0] * shape[1], size[1] * shape[0]), squeeze=False, sharey=share)
    for across, protocol in zip(axes, protocols, strict=True):
        for axis, (column, title) in zip(across, columns.items(), strict=True):
            heading = f"{title}, {protocol}" if protocol else title
            axis.set(title=heading, xlabel=labels[0], ylabel=labels[1] if axis is across[0] else "")
            axis.grid(alpha=0.3)
            yield axis, protocol, column
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    save(figure, path)


def curve(axis: Axes, line: pd.Series, low: pd.Series, high: pd.Series, name: str, number: int, **style: Any) -> None:
    """A line in its algorithm's colour, with a band from ``low`` to ``high``."""
    axis.plot(line.index, line, color=colour(number), label=name, **style)
    axis.fill_between(line.index, low, high, color=colour(number), alpha=0.15, linewidth=0)


def colour(number: int) -> str:
    """The colour of the n-th algorithm."""
    return COLOURS[number % len(COLOURS)]


def curves(
    metrics: pd.DataFrame, metric: str, labels: tuple[str, str], titles: Mapping[str, str], names: Mapping[str, str],
    caption: str, path: Path, marks: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> None:  # fmt: skip
    """A metric over what a learner is given (inner steps, a share of the clips): a row per protocol, a panel per target.

    Args:
        metrics: Rows of ``metrics.csv`` of one split, such as ``steps``; ``iteration`` is how much it is given.
        metric: Which.
        labels: Of the horizontal and the vertical axis.
        titles: Target → its panel's title.
        names: Algorithm → its name in the legend, a line each.
        caption: What the data are.
        path: The PNG to write.
        marks: (protocol, target) → what is marked → where on the horizontal axis.
    """
    metrics, protocols = metrics[metrics["metric"] == metric], list(metrics["protocol"].unique())
    caption = f"{caption}\nmean over seeds, band: smallest to largest seed; the curve chooses nothing"
    for axis, protocol, target in panels(protocols, titles, (4.5, 3.6), labels, caption, path, share="row"):
        here = metrics[(metrics["protocol"] == protocol) & (metrics["target"] == target)]
        for number, (algorithm, name) in enumerate(names.items()):
            seeds = here[here["algorithm"] == algorithm].groupby("iteration")["mean"]
            if len(seeds):
                curve(axis, seeds.mean(), seeds.min(), seeds.max(), name, number, marker="o", markersize=3)
        for what, place in (marks or {}).get((protocol, target), {}).items():
            axis.axvline(place, color="0.4", linestyle=":", linewidth=1)
            where = (place, 0.02)
            axis.annotate(what, where, xycoords=("data", "axes fraction"), rotation=90, fontsize=6, ha="right")


def bars(
    summary: pd.DataFrame, metrics: Mapping[str, str], titles: Mapping[str, str], constant: Sequence[float],
    names: Mapping[str, str], caption: str, path: Path,
) -> None:  # fmt: skip
    """Accuracies with their 95 % intervals: a row per protocol, a panel per metric, a bar per target and algorithm.

    Args:
        summary: Rows of ``summary.csv``.
        metrics: Metric → the panel's title.
        titles: Target → its name on the axis.
        constant: The accuracy of always giving the commonest answer, one per metric; drawn as a line.
        names: Algorithm → its name in the legend.
        caption: What the data are.
        path: The PNG to write.
    """
    protocols, always = list(summary["protocol"].unique()), dict(zip(metrics, constant, strict=True))
    width = 0.85 / len(names)
    for axis, protocol, metric in panels(protocols, metrics, (6.5, 3.8), ("", ""), caption, path, share=True):
        rows = summary[(summary["protocol"] == protocol) & (summary["metric"] == metric)]
        for number, (algorithm, name) in enumerate(names.items()):
            chosen = rows[rows["algorithm"] == algorithm].set_index("target").reindex(list(titles))
            at = np.arange(len(titles)) + (number - (len(names) - 1) / 2) * width
            ends = np.abs(np.array(limits(chosen["mean"], chosen["ci95"], metric)) - chosen["mean"].to_numpy())
            axis.bar(at, 100 * chosen["mean"], width * 0.95, yerr=100 * ends, capsize=2, label=name, color=colour(number),
                     hatch="//" if number >= len(COLOURS) else None)  # fmt: skip
        level = 100 * always[metric]
        axis.axhline(level, color="0.3", linestyle="--", linewidth=1, label=f"always one answer, {level:.1f} %")
        axis.set_xticks(range(len(titles)), list(titles.values()), fontsize=8)
        axis.set(ylabel="%")
        axis.grid(visible=False, axis="x")


def confusions(counts: Mapping[tuple[str, str], pd.DataFrame], caption: str, path: Path) -> None:
    """Confusion matrices, each row as per cent of its true class.

    Args:
        counts: (row title, column title) → counts, true classes as rows.
        caption: What the data are.
        path: The PNG to write.
    """
    down, across = (list(dict.fromkeys(key[place] for key in counts)) for place in (0, 1))
    figure, axes = plt.subplots(len(down), len(across), figsize=(4.2 * len(across), 4 * len(down)), squeeze=False)
    for (row, column), matrix in counts.items():
        axis = axes[down.index(row)][across.index(column)]
        share = 100 * matrix.to_numpy() / matrix.to_numpy().sum(axis=1, keepdims=True)
        axis.imshow(share, cmap="cividis", vmin=0, vmax=100)
        for i, j in np.ndindex(share.shape):
            axis.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", fontsize=7,
                      color="black" if share[i, j] > 50 else "white")  # fmt: skip
        axis.set_xticks(range(len(matrix)), matrix.columns, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(matrix)), matrix.index, fontsize=7)
        axis.set(title=f"{row}: {column}", xlabel="predicted", ylabel="true")
        axis.title.set_fontsize(9)
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    save(figure, path)
