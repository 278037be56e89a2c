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

from metaser.files import replacing

#: Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG without a date, so that equal plots are equal files, and closes the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight", metadata={"Software": "metaser"})
    plt.close(figure)


def curves(metrics: pd.DataFrame, titles: Mapping[str, str], caption: str, path: Path) -> None:
    """Training and test curves: a row per metric (loss, accuracy over all classes), a column per protocol and algorithm.

    Args:
        metrics: Rows of ``metrics.csv``.
        titles: Target → its name in the legend.
        caption: What the data are.
        path: The PNG to write.
    """
    shown = {"loss": "query loss (nats)", "accuracy": "accuracy, all classes"}
    groups = list(metrics[["protocol", "algorithm"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = plt.subplots(len(shown), len(groups), figsize=(6 * len(groups), 7), squeeze=False, sharex="col")
    for row, (metric, label) in enumerate(shown.items()):
        for column, (protocol, algorithm) in enumerate(groups):
            axis = axes[row][column]
            chosen = metrics[(metrics["metric"] == metric) & (metrics["protocol"] == protocol)]
            chosen = chosen[chosen["algorithm"] == algorithm]
            for number, (target, title) in enumerate(titles.items()):
                for split, style in (("train", ":"), ("monitor", "-")):
                    over = chosen[(chosen["target"] == target) & (chosen["split"] == split)]
                    line = over.groupby("iteration")["mean"].agg(["mean", "min", "max"])
                    colour = COLOURS[number % len(COLOURS)]
                    name = f"{title}, {'test' if split == 'monitor' else 'training on the others'}"
                    axis.plot(line.index, line["mean"], style, color=colour, label=name)
                    if split == "monitor":
                        axis.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.15, linewidth=0)
            axis.set(ylabel=label, title=f"{algorithm}, protocol: {protocol}" if row == 0 else "")
            axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("meta-iteration")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.05))
    figure.suptitle(
        f"{caption}\nmean over seeds, band: smallest to largest seed; the test curve chooses nothing", fontsize=9
    )
    save(figure, path)


def bars(
    summary: pd.DataFrame, metrics: Mapping[str, str], titles: Mapping[str, str], chance: Sequence[float], caption: str,
    path: Path,
) -> None:  # fmt: skip
    """Accuracies with their 95 % intervals, a panel per metric, a bar per target and protocol; guessing as a line.

    Args:
        summary: Rows of ``summary.csv``.
        metrics: Metric → the panel's title.
        titles: Target → its name on the axis.
        chance: The accuracy of always giving the commonest answer, one per metric.
        caption: What the data are.
        path: The PNG to write.
    """
    groups = list(summary[["protocol", "algorithm"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = plt.subplots(1, len(metrics), figsize=(5.5 * len(metrics), 4), squeeze=False, sharey=True)
    width = 0.8 / len(groups)
    for axis, (metric, title), guess in zip(axes[0], metrics.items(), chance, strict=True):
        for number, (protocol, algorithm) in enumerate(groups):
            chosen = summary[(summary["protocol"] == protocol) & (summary["algorithm"] == algorithm)]
            chosen = chosen[chosen["metric"] == metric].set_index("target").reindex(list(titles))
            at = np.arange(len(titles)) + (number - (len(groups) - 1) / 2) * width
            axis.bar(at, 100 * chosen["mean"], width * 0.95, yerr=100 * chosen["ci95"], capsize=3,
                     color=COLOURS[number % len(COLOURS)], label=f"{algorithm}, {protocol}")  # fmt: skip
        axis.axhline(
            100 * guess, color="0.3", linestyle="--", linewidth=1, label=f"always one answer, {100 * guess:.1f} %"
        )
        axis.set_xticks(range(len(titles)), list(titles.values()), fontsize=8)
        axis.set(title=title, ylabel="%")
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize=7)
    figure.suptitle(caption, fontsize=9)
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
