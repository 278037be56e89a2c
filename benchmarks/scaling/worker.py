"""A rank's process: ``python -m benchmarks.scaling.worker JOB``, alone or started by torchrun; rank 0 prints what it found.

JOB is `Job` in JSON. The answer is the last line of standard output, `Found` in JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from benchmarks import ours
from benchmarks.workloads import METHODS, WORKLOADS, Case, Workload, quick

#: Bytes of the two messages from which latency and bandwidth are read.
SMALL, LARGE = 4, 1 << 26

#: All-reduces per message, and meta-iterations before the timed ones.
REDUCES, WARMUP = 20, 3


@dataclass(frozen=True)
class Job:
    """What to time.

    Attributes:
        workload: Of `benchmarks.workloads.WORKLOADS`.
        algorithm: Of `benchmarks.workloads.METHODS`.
        tasks: Per meta-iteration, all ranks together; the workload's own when 0.
        threads: Per rank; this rank's share of the cores when 0.
        seconds: About how long.
        tiny: The workload at a size that takes no time.
    """

    workload: str
    algorithm: str
    tasks: int = 0
    threads: int = 0
    seconds: float = 3.0
    tiny: bool = False

    def sized(self) -> Workload:
        """The workload as it is to be run."""
        found = quick(WORKLOADS[self.workload]) if self.tiny else WORKLOADS[self.workload]
        return replace(found, meta_batch=self.tasks or found.meta_batch)


@dataclass(frozen=True)
class Found:
    """What was timed.

    Attributes:
        tasks: Per meta-iteration.
        milliseconds: Per meta-iteration, the median.
        message: Bytes of the meta-gradient, all that the ranks tell each other but for a few numbers per task.
        small: Seconds of an all-reduce of `SMALL` bytes; 0 without other ranks.
        large: Seconds of one of `LARGE` bytes.
    """

    tasks: int
    milliseconds: float
    message: int
    small: float = 0.0
    large: float = 0.0


def work(job: Job) -> tuple[bool, Found]:
    """Times this rank's part; whether it is rank 0, and what was found."""
    import torch

    from metaser.models import build
    from metaser.runtime.parallel import Workers
    from metaser.runtime.ranks import Ranks

    workload, ranks = job.sized(), Ranks.join(torch.device("cpu"))
    network = build(workload.model, workload.input_shape, workload.outputs, seed=0)
    message = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())

    def reduce(size: int) -> None:
        ranks.add_up(torch.zeros(size // 4))

    with Workers(job.threads or None, ranks) as workers:
        iteration = ours.prepare(Case(workload, METHODS[job.algorithm]), workers)
        for _ in range(WARMUP):
            iteration()
        once = ranks.tell(timed(iteration, 1))
        seconds = timed(iteration, max(5, round(job.seconds / once)))
    small, large = (timed(lambda size=size: reduce(size), REDUCES) for size in (SMALL, LARGE))  # type: ignore[misc]
    first, alone = ranks.first, ranks.count == 1
    ranks.leave()
    return first, Found(workload.meta_batch, 1e3 * seconds, message, 0.0 if alone else small, 0.0 if alone else large)


def timed(what: Callable[[], None], times: int) -> float:
    """The median of so many times, in seconds; ranks that wait for each other agree on ``times``."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    ours.tune()
    first, found = work(Job(**json.loads(sys.argv[1])))
    if first:
        print(json.dumps(asdict(found)))
