"""What a meta-iteration costs here: in one process, on several ranks, and task by task; and what a message costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd

from benchmarks.process import environment
from benchmarks.scaling.limit import Cost, Link
from benchmarks.scaling.worker import LARGE, SMALL, Found, Job
from metaser.runtime.errors import UserError

#: The columns of ``rounds.csv``.
ROUNDS = ("workload", "algorithm", "contender", "round", "ranks", "threads_per_rank", "tasks", "ms_per_meta_iteration",
          "tasks_per_second", "message_bytes", "small_reduce_us", "large_reduce_us")  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """A way to run a workload; ``tasks`` is a multiple of the workload's meta-batch."""

    name: str
    ranks: int
    threads: int
    tasks: int = 1


def contenders(cores: int) -> list[Contender]:
    """One process with a thread per core, as many ranks with one thread each; and one thread, on two meta-batches."""
    return [
        Contender("process", 1, cores),
        Contender("ranks", max(2, cores), 1),
        Contender("one thread", 1, 1),
        Contender("one thread, twice the tasks", 1, 1, tasks=2),
    ]


def measure(jobs: Sequence[Job], rounds: int, cores: int, tick: Callable[[], None]) -> pd.DataFrame:
    """Every contender's turns at every job, in an order that is reversed from one round to the next.

    Returns:
        A frame with the columns `ROUNDS`.

    Raises:
        UserError: if a process ends badly.
    """
    rows = []
    for job in jobs:
        for number in range(rounds):
            for contender in contenders(cores)[:: -1 if number % 2 else 1]:
                tasks = job.sized().meta_batch * contender.tasks
                found = start(replace(job, tasks=tasks, threads=contender.threads), contender.ranks)
                rows.append((job.workload, job.algorithm, contender.name, number, contender.ranks, contender.threads, tasks,
                             found.milliseconds, 1e3 * tasks / found.milliseconds, found.message,
                             1e6 * found.small, 1e6 * found.large))  # fmt: skip
                tick()
    return pd.DataFrame(rows, columns=list(ROUNDS))


def start(job: Job, ranks: int) -> Found:
    """Runs a job on so many ranks of this machine.

    Raises:
        UserError: if it ends badly.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "benchmarks.scaling.worker", json.dumps(asdict(job))]
    variables = {**environment(), "OMP_NUM_THREADS": str(job.threads or os.cpu_count() or 1)}
    ended = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if ended.returncode:
        said = [line.strip() for line in ended.stderr.splitlines() if line.strip(" =-")]  # torchrun ends with a ruler
        raise UserError(f"scaling: {job.workload} on {ranks} rank(s) ended with exit code {ended.returncode}: "
                        f"{said[-1][:200] if said else 'it said nothing'}")  # fmt: skip
    return Found(**json.loads(ended.stdout.splitlines()[-1]))


def costs(rounds: pd.DataFrame) -> dict[str, Cost]:
    """What each workload costs; a task is what more tasks take, the rest what is left without any."""
    found = {}
    for workload, rows in rounds.groupby("workload", sort=False):
        one, two = (rows[rows["contender"] == name] for name in ("one thread", "one thread, twice the tasks"))
        tasks, whole = int(one["tasks"].iloc[0]), one["ms_per_meta_iteration"].median()
        more = two["ms_per_meta_iteration"].to_numpy() - one["ms_per_meta_iteration"].to_numpy()
        task = statistics.median(more) / tasks
        found[str(workload)] = Cost(
            task / 1e3, max(0.0, whole - tasks * task) / 1e3, int(one["message_bytes"].iloc[0]), tasks
        )
    return found


def link(rounds: pd.DataFrame) -> Link:
    """The loopback interface, from what two or more ranks here told each other."""
    rows = rounds[rounds["contender"] == "ranks"]
    count = int(rows["ranks"].iloc[0])
    steps = 2 * (count - 1)
    small, large = (statistics.median(rows[name]) / 1e6 for name in ("small_reduce_us", "large_reduce_us"))
    latency = small / steps
    return Link("this machine's own (measured)", latency, (LARGE - SMALL) / count * steps / max(1e-9, large - small))
