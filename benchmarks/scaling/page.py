"""``table.md`` and ``limit.png`` of ``make scaling``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from benchmarks.scaling.limit import Cost, Link, last
from benchmarks.summary import median_interval
from metaser.reporting.plots import COLOURS, save
from metaser.reporting.tables import markdown


def table(
    rounds: pd.DataFrame, calculated: pd.DataFrame, costs: Mapping[str, Cost], link: Link, caption: str
) -> str:  # fmt: skip
    """The whole page.

    Args:
        rounds: As ``rounds.csv``.
        calculated: As ``limit.csv``.
        costs: Per workload.
        link: The measured one.
        caption: Where it was measured.
    """
    return "\n\n".join([
        f"# How many ranks one run is worth: {caption}",
        "What is measured and what is calculated, by which equation: docs/scaling.md.",
        "## Measured: ranks beside threads",
        measured(rounds),
        "## Measured: what the calculation starts from",
        starts(costs),
        network(link),
        "## Calculated: speed-up with the paper's meta-batch",
        speedups(calculated, "the paper's"),
        "## Calculated: speed-up with a meta-batch that grows with the ranks",
        speedups(calculated, "grows with the ranks"),
        "![Tasks per second against ranks](limit.png)",
    ]) + "\n"  # fmt: skip


def network(link: Link) -> str:
    """The link that was measured."""
    return f"All-reduces on {link.name}: latency {1e6 * link.latency_s:.0f} µs per step of the ring, bandwidth " \
           f"{link.bandwidth / 1e9:.2f} GB/s."  # fmt: skip


def measured(rounds: pd.DataFrame) -> str:
    """Tasks per second of one process and of several ranks, and their paired ratio."""
    header = ["workload", "ranks × threads", "process, tasks/s", "ranks, tasks/s", "ranks over process"]
    rows = []
    for workload, here in rounds.groupby("workload", sort=False):
        process, ranks = (here[here["contender"] == name].sort_values("round") for name in ("process", "ranks"))
        pairs = ranks["tasks_per_second"].to_numpy() / process["tasks_per_second"].to_numpy()
        ratio, low, high = median_interval(list(pairs))
        first = ranks.iloc[0]
        rows.append([str(workload), f"{first['ranks']} × {first['threads_per_rank']}",
                     f"{process['tasks_per_second'].median():.1f}", f"{ranks['tasks_per_second'].median():.1f}",
                     f"{ratio:.2f} [{low:.2f}, {high:.2f}]"])  # fmt: skip
    return markdown(header, rows)


def starts(costs: Mapping[str, Cost]) -> str:
    """What the calculation starts from."""
    return markdown(
        ["workload", "tasks of the paper", "ms per task", "ms besides", "message, kB"],
        [[name, str(cost.meta_batch), f"{1e3 * cost.task_s:.2f}", f"{1e3 * cost.rest_s:.2f}", f"{cost.message / 1e3:.0f}"]
         for name, cost in costs.items()],
    )  # fmt: skip


def speedups(calculated: pd.DataFrame, kind: str) -> str:
    """Speed-up by ranks, a row per workload and link."""
    here = calculated[calculated["meta_batch"] == kind]
    rows = []
    for (workload, link), line in here.groupby(["workload", "link"], sort=False):
        limit = last(line)
        cells = [f"**{short(speedup)}**" if ranks <= limit else short(speedup)
                 for ranks, speedup in zip(line["ranks"], line["speedup"], strict=True)]  # fmt: skip
        rows.append([str(workload), str(link), *cells])
    return markdown(["workload", "link", *map(str, sorted(set(here["ranks"])))], rows)


def short(speedup: float) -> str:
    """Three digits, or all before the point."""
    return f"{speedup:.0f}" if speedup >= 100 else f"{speedup:.3g}"


def plot(calculated: pd.DataFrame, caption: str, path: Path) -> None:
    """Tasks per second against ranks, a panel per workload, a colour per link, both axes logarithmic."""
    workloads = list(dict.fromkeys(calculated["workload"]))
    figure, axes = plt.subplots(1, len(workloads), figsize=(4.6 * len(workloads), 4.2), squeeze=False)
    for axis, workload in zip(axes[0], workloads, strict=True):
        here = calculated[calculated["workload"] == workload]
        for number, (link, lines) in enumerate(here.groupby("link", sort=False)):
            for kind, style in (("the paper's", ":"), ("grows with the ranks", "-")):
                line = lines[lines["meta_batch"] == kind]
                axis.plot(line["ranks"], line["tasks_per_second"], style, color=COLOURS[number],
                          label=f"{link}; meta-batch: {kind}")  # fmt: skip
        ranks = sorted(set(here["ranks"]))
        alone = here[here["ranks"] == 1]["tasks_per_second"].iloc[0]
        axis.plot(ranks, [alone * count for count in ranks], color="0.7", linewidth=1, zorder=0, label="ideal")
        axis.set(xscale="log", yscale="log", xlabel="ranks", title=str(workload))
        axis.set_xticks(ranks[::2], [str(count) for count in ranks[::2]])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("tasks per second (calculated)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.suptitle(f"calculated from one thread of {caption}", fontsize=9)
    figure.tight_layout(rect=(0, 0.2, 1, 1))
    figure.legend(handles, labels, loc="lower center", ncol=3, fontsize=7)
    save(figure, path)
