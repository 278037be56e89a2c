"""Where more ranks stop helping: a calculation from what a task and a message cost; docs/scaling.md has its equation and source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

#: The ranks that are calculated.
RANKS = tuple(2**power for power in range(11))

#: Two 8-byte numbers per task, its loss and accuracy, travel in an all-reduce of their own.
SEEN_BYTES = 16

#: More ranks than this share of them pays for are past the limit.
LEAST = 0.5

LIMIT = ("workload", "link", "meta_batch", "tasks", "ranks", "seconds_per_meta_iteration", "tasks_per_second", "speedup",
         "efficiency")  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a workload costs on one thread.

    Attributes:
        task_s: Seconds per task.
        rest_s: Seconds per meta-iteration that no rank can leave to another.
        message: Bytes of the meta-gradient.
        meta_batch: T of the paper.
    """

    task_s: float
    rest_s: float
    message: int
    meta_batch: int


@dataclass(frozen=True)
class Link:
    """A network: seconds until a message's first byte arrives, and bytes per second from then on."""

    name: str
    latency_s: float
    bandwidth: float


#: Networks that were not measured; round figures of their kind, TCP for the first two.
LINKS = (Link("1 Gb/s Ethernet (assumed)", 50e-6, 0.117e9), Link("10 Gb/s Ethernet (assumed)", 20e-6, 1.17e9),
         Link("200 Gb/s InfiniBand (assumed)", 2e-6, 24e9))  # fmt: skip


def all_reduce(ranks: int, size: int, link: Link) -> float:
    """Seconds that a ring all-reduce of ``size`` bytes takes."""
    return 2 * (ranks - 1) * (link.latency_s + size / ranks / link.bandwidth)


def iteration(ranks: int, tasks: int, cost: Cost, link: Link) -> float:
    """Seconds of a meta-iteration of so many tasks on so many ranks."""
    told = all_reduce(ranks, cost.message, link) + all_reduce(ranks, SEEN_BYTES * tasks, link)
    return math.ceil(tasks / ranks) * cost.task_s + cost.rest_s + told


def table(costs: Mapping[str, Cost], links: Sequence[Link]) -> pd.DataFrame:
    """Every workload × link × number of ranks, with the paper's meta-batch and with one that grows with the ranks.

    Returns:
        A frame with the columns `LIMIT`. ``speedup`` is that of the tasks per second, against one rank on the paper's
        meta-batch; ``efficiency`` is the speed-up per rank.
    """
    rows = []
    for workload, cost in costs.items():
        for place in links:
            alone = cost.meta_batch / iteration(1, cost.meta_batch, cost, place)
            for kind in ("the paper's", "grows with the ranks"):
                for ranks in RANKS:
                    tasks = cost.meta_batch if kind == "the paper's" else cost.meta_batch * ranks
                    seconds = iteration(ranks, tasks, cost, place)
                    speedup = tasks / seconds / alone
                    rows.append(
                        (workload, place.name, kind, tasks, ranks, seconds, tasks / seconds, speedup, speedup / ranks)
                    )
    return pd.DataFrame(rows, columns=list(LIMIT))


def last(rows: pd.DataFrame) -> int:
    """The most ranks of one workload, link and kind, counted up from one, that pay for half of themselves at least."""
    found = 1
    for ranks, efficiency in zip(rows["ranks"], rows["efficiency"], strict=True):
        if efficiency < LEAST:
            break
        found = int(ranks)
    return found
