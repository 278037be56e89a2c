"""The benchmark's two plots: the published times beside ours, and what a meta-iteration costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from benchmarks.cost import CONTENDERS
from metaser.reporting.plots import COLOURS, save

#: What the plot of the published times shows, and algorithms by name.
REPORTED = ("fomaml", "reptile-1", "reptile", "regmaml")
NAMES = {"fomaml": "FOMAML", "maml": "MAML", "reptile": "Reptile, 5 steps", "reptile-1": "Reptile, 1 step",
         "regmaml": "Reg-MAML"}  # fmt: skip


def report_times(relative: pd.DataFrame, caption: str, path: Path) -> None:
    """Seconds per 100 epochs in units of FOMAML's, ours beside the published ones.

    Args:
        relative: Rows of ``summary.csv`` whose metric is ``seconds_relative_to_fomaml``.
        caption: Where ours were measured.
        path: The PNG to write.
    """
    figure, axis = plt.subplots(figsize=(6.5, 4))
    at = np.arange(len(relative))
    axis.bar(at - 0.2, relative["mean"], 0.38, yerr=relative["ci95"], capsize=3, color=COLOURS[0], label="metaser")
    axis.bar(at + 0.2, relative["paper"], 0.38, color=COLOURS[1], label="published (Chandra)")
    axis.set_xticks(at, [NAMES[name] for name in relative["algorithm"]], fontsize=8)
    axis.set(ylabel="time per 100 epochs, FOMAML = 1")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    figure.suptitle(f"{caption}\nthe published times are of another machine and hold more than gradients", fontsize=9)
    save(figure, path)


def cost(points: pd.DataFrame, caption: str, path: Path) -> None:
    """Milliseconds per meta-iteration: a row per workload, a column per quantity that is varied, both axes logarithmic.

    Args:
        points: Rows of ``cost.csv``.
        caption: Where they were measured.
        path: The PNG to write.
    """
    axis_of = {"tasks": "tasks", "shots": "shots", "inner steps": "inner_steps"}
    workloads = list(dict.fromkeys(points["variant"]))
    figure, axes = plt.subplots(len(workloads), len(axis_of), figsize=(12, 3.6 * len(workloads)), squeeze=False)
    for across, workload in zip(axes, workloads, strict=True):
        for axis, (varied, column) in zip(across, axis_of.items(), strict=True):
            chosen = points[(points["variant"] == workload) & (points["varied"] == varied)]
            for number, (algorithm, line) in enumerate(chosen.groupby("algorithm", sort=False)):
                for contender, style in zip(CONTENDERS, (":", "-"), strict=True):
                    axis.plot(line[column], line[f"{contender}_ms"], style, marker="o", markersize=3,
                              color=COLOURS[number], label=f"{NAMES[str(algorithm)]}, {contender}")  # fmt: skip
            values = sorted(set(chosen[column]))
            axis.set(xscale="log", yscale="log", xlabel=varied, ylabel="ms per meta-iteration", title=workload)
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    save(figure, path)
