"""From every round to ``summary.csv``: medians over rounds, ratios taken within a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.workloads import Workload
from metaser.reporting.results import KEYS, SUMMARY

OURS = "metaser"
OTHERS = ("learn2learn", "reference")
PEAKS = {"gemm": "share_of_gemm_peak", "onednn": "share_of_onednn_peak"}

#: Seconds per 100 epochs (meta-iterations) in the table of Y. Chandra's report "Modification in meta-learning for
#: low-resource SER", on a machine and with settings that it does not name: only their ratios can be compared.
PUBLISHED_SECONDS = {"fomaml": 30.39, "reptile-1": 22.27, "regmaml": 37.20}
PUBLISHED_WORKLOAD = "lstm"

RESAMPLES = 2000


def median_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval: the 2.5th and 97.5th percentile of medians of resampled rounds (bootstrap).

    The interval is NaN for fewer than two values.
    """
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(np.median(array)), float("nan"), float("nan")
    medians = np.median(np.random.default_rng(0).choice(array, (RESAMPLES, len(array))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(array)), float(low), float(high)


def per_round(cell: pd.DataFrame) -> dict[str, np.ndarray]:
    """The metrics of one cell that every round has a value of.

    Args:
        cell: Its rows of ``rounds.csv``.
    """
    cell = cell.assign(ms=1000 * cell["seconds"].astype(float) / cell["iterations"].astype(float))
    ms, gflops = (cell.pivot_table(index="round", columns="contender", values=name) for name in ("ms", "gflops"))
    found = {f"speedup_vs_{other}": ms[other] / ms[OURS] for other in OTHERS if other in ms}
    for contender in ms:
        prefix = "" if contender == OURS else f"{contender}_"
        found[f"{prefix}ms_per_meta_iteration"] = ms[contender]
        found[f"{prefix}seconds_per_100_epochs"] = ms[contender] / 10
        found[f"{prefix}gflops"] = gflops[contender]
        for peak, metric in PEAKS.items():
            if peak in gflops:
                found[f"{prefix}{metric}"] = gflops[contender] / gflops[peak]
    return {metric: values.to_numpy(dtype=float) for metric, values in found.items()}


def summarise(
    rounds: pd.DataFrame, memory: Mapping[tuple[str, str, str], float | None], workloads: Mapping[str, Workload]
) -> pd.DataFrame:
    """``summary.csv``: ``mean`` holds medians over rounds, ``n_seeds`` the number of rounds.

    Args:
        rounds: With the columns `benchmarks.measure.ROUNDS`.
        memory: (workload, algorithm, contender) → MiB.
        workloads: By name, for the number of tasks.
    """
    rows: list[dict[str, Any]] = []
    for key, cell in rounds.groupby(list(KEYS), sort=False):
        named = dict(zip(KEYS, key, strict=True))
        place = str(named["variant"]), str(named["algorithm"])
        common = {**named, "n_tasks": workloads[place[0]].meta_batch, "n_seeds": cell["round"].nunique(), "paper": None}
        for metric, values in per_round(cell).items():
            median, low, high = median_interval(values)
            rows.append({**common, "metric": metric, "mean": median, "ci95": (high - low) / 2})
        for (*where, contender), mib in memory.items():
            if tuple(where) == place and mib is not None:
                metric = "peak_memory_mib" if contender == OURS else f"{contender}_peak_memory_mib"
                rows.append({**common, "metric": metric, "mean": mib, "ci95": float("nan")})
    rows += relative(rows)
    rows += machine(rounds)
    return pd.DataFrame(rows)[list(SUMMARY)].astype({"paper": float})


def relative(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our times on the published workload in units of FOMAML's, beside the published ones in units of their FOMAML's."""
    times = {row["algorithm"]: row for row in rows
             if row["variant"] == PUBLISHED_WORKLOAD and row["metric"] == "seconds_per_100_epochs"}  # fmt: skip
    if "fomaml" not in times:
        return []
    unit, published = times["fomaml"], PUBLISHED_SECONDS["fomaml"]
    found = []
    for algorithm, row in times.items():
        ratio = row["mean"] / unit["mean"]
        # The two were not measured in the same rounds: their relative half widths add up as independent errors do.
        error = ratio * np.hypot(row["ci95"] / row["mean"], unit["ci95"] / unit["mean"]) if row is not unit else 0.0
        paper = PUBLISHED_SECONDS[algorithm] / published if algorithm in PUBLISHED_SECONDS else None
        found.append({**row, "metric": "seconds_relative_to_fomaml", "mean": ratio, "ci95": error, "paper": paper})
    return found


def machine(rounds: pd.DataFrame) -> list[dict[str, Any]]:
    """The machine's own speed over all rounds, as rows of a variant ``machine``."""
    found = []
    for peak in PEAKS:
        values = rounds.loc[rounds["contender"] == peak, "gflops"].to_numpy(dtype=float)
        if len(values):
            median, low, high = median_interval(values)
            found.append({**dict.fromkeys(KEYS, ""), "experiment": "bench", "variant": "machine", "algorithm": peak,
                          "protocol": "bench", "data": "synthetic", "shots": 0, "metric": "gflops", "mean": median,
                          "ci95": (high - low) / 2, "n_tasks": 0, "n_seeds": len(values), "paper": None})  # fmt: skip
    return found
