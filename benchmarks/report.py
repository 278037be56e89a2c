"""``table.md``: what was measured, how, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.summary import OTHERS, OURS, PUBLISHED_SECONDS, PUBLISHED_WORKLOAD, per_round
from benchmarks.summary import median_interval as interval
from benchmarks.workloads import METHODS, Workload
from metaser.reporting.results import KEYS
from metaser.reporting.tables import markdown

NONE = "–"

#: What stands before a metric's name: nothing before ours.
PREFIXES = ("", *(f"{other}_" for other in OTHERS))


def table(
    rounds: pd.DataFrame, summary: pd.DataFrame, points: pd.DataFrame, workloads: Mapping[str, Workload],
    conditions: Mapping[str, Any],
) -> str:  # fmt: skip
    """The whole of ``table.md``.

    Args:
        rounds: As ``rounds.csv``.
        summary: As ``summary.csv``.
        points: As ``cost.csv``; may be empty.
        workloads: Those measured, by name.
        conditions: As in ``run.json``.
    """
    parts = [f"# Benchmark: {conditions['processor']}, {conditions['cores']} cores"]
    if conditions["quick"]:
        parts.append("**A quick run on tiny sizes: it shows that everything works, and its times mean nothing.**")
    parts += [about(conditions), "## Time per meta-iteration", times(rounds), "## Work and memory", work(rounds, summary),
              peaks(summary, conditions), "## Workloads", shapes(workloads)]  # fmt: skip
    relative = summary[summary["metric"] == "seconds_relative_to_fomaml"]
    if len(relative):
        parts += ["## The published times", published(summary, relative)]
    if len(points):
        parts += ["## What a meta-iteration costs", cost(points)]
    return "\n\n".join(parts) + "\n"


def about(conditions: Mapping[str, Any]) -> str:
    """How it was measured."""
    threads = conditions["threads"]
    named = {"learn2learn": "learn2learn's own example loop and classes, one task at a time",
             "reference": "the way of MetaSER's published code: per task a table filter, DataLoaders, a deep copy, SGD",
             OURS: "this package's training loop, the allocator tuned (glibc only), tasks over threads"}  # fmt: skip
    lines = [f"- `{name}`: {text}; {threads[name]} PyTorch thread(s) per operation" for name, text in named.items()
             if name in threads]  # fmt: skip
    return "\n".join([
        f"torch {conditions['torch']}, learn2learn {conditions['learn2learn']}, float32, Gaussian data. Contenders, each in "
        "a process of its own, PyTorch's default threads and the system's allocator unless said otherwise:",
        "", *lines, "",
        f"Medians over {conditions['rounds']} rounds. In a round every contender runs for about {conditions['turn_s']} s (one "
        "meta-iteration at least), in an order that is reversed from one round to the next; ratios are taken within a "
        "round. In brackets: the 95 % interval of the median (bootstrap over rounds).",
    ])  # fmt: skip


def cells(rounds: pd.DataFrame) -> list[tuple[str, str, dict[str, tuple[float, float, float]]]]:
    """(workload, algorithm, metric → median and interval) of every cell."""
    return [(str(key[1]), str(key[2]), {metric: interval(values) for metric, values in per_round(cell).items()})
            for key, cell in ((tuple(key), cell) for key, cell in rounds.groupby(list(KEYS), sort=False))]  # fmt: skip


def times(rounds: pd.DataFrame) -> str:
    """Milliseconds of each contender, and how much faster ours is."""
    header = ["workload, algorithm", f"{OURS}, ms", *(f"{other}, ms" for other in OTHERS), f"{OURS}, s per 100 epochs",
              *(f"faster than {other}" for other in OTHERS)]  # fmt: skip
    rows = []
    for workload, algorithm, found in cells(rounds):
        plain = [number(found, f"{prefix}ms_per_meta_iteration") for prefix in PREFIXES]
        plain.append(number(found, "seconds_per_100_epochs"))
        ratios = [ratio(found, f"speedup_vs_{other}") for other in OTHERS]
        rows.append([f"{workload}, {title(algorithm)}", *plain, *ratios])
    return markdown(header, rows)


def work(rounds: pd.DataFrame, summary: pd.DataFrame) -> str:
    """GFLOP/s, shares of the machine's peaks, and memory, of ours and of learn2learn's."""
    memory = summary.set_index(["variant", "algorithm", "metric"])["mean"].to_dict()
    header = ["workload, algorithm", "GFLOP/s", "of GEMM peak", "of oneDNN peak", "learn2learn: GFLOP/s", "of GEMM peak",
              *(f"{name}, MiB" for name in (OURS, *OTHERS))]  # fmt: skip
    rows = []
    for workload, algorithm, found in cells(rounds):
        mib = [memory.get((workload, algorithm, f"{prefix}peak_memory_mib")) for prefix in PREFIXES]
        rows.append([
            f"{workload}, {title(algorithm)}", number(found, "gflops"), share(found, "share_of_gemm_peak"),
            share(found, "share_of_onednn_peak"), number(found, "learn2learn_gflops"),
            share(found, "learn2learn_share_of_gemm_peak"), *(f"{value:.0f}" if value else NONE for value in mib),
        ])  # fmt: skip
    return markdown(header, rows)


def peaks(summary: pd.DataFrame, conditions: Mapping[str, Any]) -> str:
    """The machine's own speed, and how work is counted."""
    found = summary[summary["variant"] == "machine"].set_index("algorithm")["mean"].to_dict()
    names = {"gemm": "`torch.matmul` (GEMM peak)", "onednn": "oneDNN's product (oneDNN peak)"}
    said = ", ".join(f"{names[str(name)]} {value:.0f} GFLOP/s" for name, value in found.items())
    return (f"Square float32 products on all cores, in the same rounds: {said}. PyTorch's convolutions and LSTMs are oneDNN's, "
            "its dense layers MKL's. Work is counted from the mathematics, the same for all contenders: a gradient on a batch "
            "by PyTorch's flop counter on the plain network (LSTMs in closed form), a Hessian-vector product as two. Memory "
            "is the peak of the contender's whole process; Python, the libraries and the data are up to "
            f"{conditions['start_memory_mib']} MiB of it.")  # fmt: skip


def shapes(workloads: Mapping[str, Workload]) -> str:
    """What a task of each workload is."""
    rows = [[name, "×".join(map(str, w.input_shape)), f"{w.ways}" + (f"+{len(w.fixed)}" if w.fixed else ""), str(w.shots),
             f"{w.support} + {w.query}", str(w.meta_batch), f"{w.inner_lr:g}"] for name, w in workloads.items()]  # fmt: skip
    steps = ", ".join(f"{method.name} {method.steps}" for method in METHODS.values() if method.steps > 1)
    header = ["workload", "input", "ways", "shots", "support + query clips", "tasks", "inner rate"]
    return markdown(header, rows) + f"\n\nOne inner step each, but: {steps}."


def published(summary: pd.DataFrame, relative: pd.DataFrame) -> str:
    """Our seconds per 100 epochs beside the report's."""
    ours = summary[(summary["variant"] == PUBLISHED_WORKLOAD) & (summary["metric"] == "seconds_per_100_epochs")]
    seconds = ours.set_index("algorithm")["mean"].to_dict()
    rows = []
    for algorithm, mean, paper in relative[["algorithm", "mean", "paper"]].to_numpy().tolist():
        theirs = (
            [f"{PUBLISHED_SECONDS[algorithm]:.2f}", f"{paper:.2f}"] if algorithm in PUBLISHED_SECONDS else [NONE, NONE]
        )
        rows.append([title(algorithm), f"{seconds[algorithm]:.1f}", f"{mean:.2f}", *theirs])
    header = [f"{PUBLISHED_WORKLOAD}", "ours, s per 100 epochs", "FOMAML = 1", "published, s", "FOMAML = 1"]
    return (markdown(header, rows) + "\n\nThe report (Y. Chandra) names neither machine nor settings: only the ratios can be "
            "compared, and its times hold work outside the gradients, which draws its ratios together. Its Reptile is set "
            "beside one inner step, as its differences (one gradient, two, three) suggest; Reptile with one step is joint "
            "training.")  # fmt: skip


def cost(points: pd.DataFrame) -> str:
    """The points of ``cost.csv``."""
    rows = []
    for point in points.to_dict("records"):
        faster = f"{point['speedup']:.2f} [{point['speedup_low']:.2f}, {point['speedup_high']:.2f}]"
        rows.append([f"{point['variant']}, {point['algorithm']}",
                     *(str(point[name]) for name in ("tasks", "shots", "inner_steps")),
                     *(f"{point[f'{name}_ms']:.1f}" for name in (OURS, "learn2learn")), faster, str(point["rounds"])])  # fmt: skip
    header = ["workload, algorithm", "tasks", "shots", "inner steps", f"{OURS}, ms", "learn2learn, ms", "faster",
              "rounds"]  # fmt: skip
    return markdown(header, rows) + "\n\nMedians; in brackets the smallest and the largest round."


def title(algorithm: str) -> str:
    """An algorithm with its steps, where there is more than one way to run it."""
    return {"reptile": "reptile (5 steps)", "reptile-1": "reptile (1 step)"}.get(algorithm, algorithm)


def number(found: Mapping[str, tuple[float, float, float]], metric: str) -> str:
    """A median with three digits or so."""
    value = found.get(metric, (float("nan"),))[0]
    if value != value:
        return NONE
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def share(found: Mapping[str, tuple[float, float, float]], metric: str) -> str:
    """A median in per cent."""
    return f"{100 * found[metric][0]:.0f} %" if metric in found else NONE


def ratio(found: Mapping[str, tuple[float, float, float]], metric: str) -> str:
    """A median with its interval."""
    if metric not in found:
        return NONE
    median, low, high = found[metric]
    return f"{median:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low == low else "")
