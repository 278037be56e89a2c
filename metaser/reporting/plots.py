"""The plots of a run: learning curves, accuracies with their intervals, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metaser.runtime.files import replacing

#: Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

#: Metrics that are no shares; all others lie between 0 and 1.
UNBOUNDED = ("loss",)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG without a date, so that equal plots are equal files, and closes the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight", metadata={"Software": "metaser"})
    plt.close(figure)


def limits(mean: pd.Series, half_width: pd.Series, metric: str) -> tuple[pd.Series, pd.Series]:
    """Both ends of an interval; within 0 and 1 where the metric is a share, which Student's t does not know."""
    low, high = mean - half_width, mean + half_width
    return (low, high) if metric in UNBOUNDED else (low.clip(0, 1), high.clip(0, 1))


def heading(title: str, protocol: str) -> str:
    """A panel's title, with the protocol where there is one."""
    return f"{title}, {protocol}" if protocol else title


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
    protocols = list(dict.fromkeys(metrics["protocol"]))
    size = 4.5 * len(titles), 3.6 * len(protocols)
    figure, axes = plt.subplots(len(protocols), len(titles), figsize=size, squeeze=False, sharey="row")
    for across, protocol in zip(axes, protocols, strict=True):
        for axis, (target, title) in zip(across, titles.items(), strict=True):
            for number, (algorithm, name) in enumerate(names.items()):
                rows = metrics[(metrics["protocol"] == protocol) & (metrics["target"] == target)]
                rows = rows[(rows["algorithm"] == algorithm) & (rows["metric"] == metric)]
                if rows.empty:
                    continue
                line = rows.groupby("iteration")["mean"].agg(["mean", "min", "max"])
                colour = COLOURS[number % len(COLOURS)]
                axis.plot(line.index, line["mean"], marker="o", markersize=3, color=colour, label=name)
                axis.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.15, linewidth=0)
            for what, place in (marks or {}).get((protocol, target), {}).items():
                axis.axvline(place, color="0.4", linestyle=":", linewidth=1)
                axis.annotate(
                    what, (place, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=6, ha="right"
                )
            axis.set(
                title=heading(title, protocol),
                xlabel=labels[0],
                ylabel=labels[1] if axis is across[0] else "",
            )
            axis.grid(alpha=0.3)
    handles, legend = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, legend, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    figure.suptitle(
        f"{caption}\nmean over seeds, band: smallest to largest seed; the curve chooses nothing", fontsize=9
    )
    figure.tight_layout()
    save(figure, path)


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
    protocols = list(dict.fromkeys(summary["protocol"]))
    size = 6.5 * len(metrics), 3.8 * len(protocols)
    figure, axes = plt.subplots(len(protocols), len(metrics), figsize=size, squeeze=False, sharey=True)
    width = 0.85 / len(names)
    for across, protocol in zip(axes, protocols, strict=True):
        for axis, (metric, title), always in zip(across, metrics.items(), constant, strict=True):
            rows = summary[(summary["protocol"] == protocol) & (summary["metric"] == metric)]
            for number, (algorithm, name) in enumerate(names.items()):
                chosen = rows[rows["algorithm"] == algorithm].set_index("target").reindex(list(titles))
                at = np.arange(len(titles)) + (number - (len(names) - 1) / 2) * width
                ends = np.abs(np.array(limits(chosen["mean"], chosen["ci95"], metric)) - chosen["mean"].to_numpy())
                axis.bar(at, 100 * chosen["mean"], width * 0.95, yerr=100 * ends, capsize=2, label=name,
                         color=COLOURS[number % len(COLOURS)], hatch="//" if number >= len(COLOURS) else None)  # fmt: skip
            said = f"always one answer, {100 * always:.1f} %"
            axis.axhline(100 * always, color="0.3", linestyle="--", linewidth=1, label=said)
            axis.set_xticks(range(len(titles)), list(titles.values()), fontsize=8)
            axis.set(title=heading(title, protocol), ylabel="%")
            axis.grid(axis="y", alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    save(figure, path)


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
