"""Where cells are run: processes on this machine, which never outlive the sweep, or what submitit reaches.

A local cell is forked from a server process that has imported everything and done nothing (multiprocessing's forkserver),
so it starts in no time and shares no threads with anybody.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from metaser.errors import UserError, first_line
from metaser.parallel import available_cores
from metaser.processes import ending, follow_parent, shielded, stop
from metaser.sweep.cell import Cell, work
from metaser.sweep.settings import Slurm

#: Called with a cell that ended, and how, for the case that the cell itself could not tell.
Ended = Callable[[Cell, str], None]

#: Seconds between two looks at submitit's jobs, and cells per array of Slurm's (whose default limit is 1001).
POLL_S, ARRAY = 0.5, 1000

#: How often a cell may run out of Slurm's time and be queued again; each time it gets further.
TIMEOUTS = 100


def local(cells: Sequence[Cell], workers: int | None, device: str, ended: Ended) -> None:
    """Runs cells in processes of their own, each with its share of the cores.

    Args:
        cells: What to run; started in this order.
        workers: At the same time; one per core when not given, or on GPUs one per GPU.
        device: ``cpu`` or ``cuda``.
        ended: Told of every cell that ended.
    """
    count = workers or (max(1, torch.cuda.device_count()) if device == "cuda" else available_cores())
    count = min(count, len(cells))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "metaser.reporting.plots"])
    places = [(cores, environment(number, device)) for number, cores in enumerate(shares(all_cores(), count))]
    waiting, free = list(reversed(cells)), list(reversed(range(count)))
    running: dict[int, tuple[ForkServerProcess, Cell]] = {}
    try:
        while waiting or running:
            while waiting and free:
                place, cell = free.pop(), waiting.pop()
                with shielded():  # a process is started and known, or neither; the server never sees Ctrl-C
                    process = context.Process(target=child, args=(cell, *places[place], os.getcwd()), daemon=True)
                    process.start()
                    running[place] = process, cell
            wait([process.sentinel for process, _ in running.values()])
            for place, (process, cell) in list(running.items()):
                if not process.is_alive():
                    process.join()
                    del running[place]
                    free.append(place)
                    ended(cell, ending(process.exitcode))
    finally:
        stop([process for process, _ in running.values()])


def child(cell: Cell, cores: Sequence[int], variables: dict[str, str], folder: str) -> None:
    """A local cell's process: it ends with the sweep's, and only that one listens to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=follow_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    sys.exit(0 if work(cell) else 1)


def all_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(available_cores()))


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """The cores in ``count`` parts of neighbours, as even as can be; one core each, in turn, where there are too few."""
    if count > len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    return [list(cores[len(cores) * n // count : len(cores) * (n + 1) // count]) for n in range(count)]


def environment(number: int, device: str) -> dict[str, str]:
    """This process's variables; with GPUs, one of them for the worker of that number."""
    variables = dict(os.environ)
    if device == "cuda":
        visible = variables.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        gpus = visible.split(",")
        variables["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return variables


def submitted(cells: Sequence[Cell], executor: Any, ended: Ended) -> None:
    """Runs cells through an executor of submitit's, and cancels what is left when interrupted.

    Raises:
        UserError: if they cannot be submitted.
    """
    from submitit.core.utils import FailedJobError, UncompletedJobError

    pending = []
    try:
        for first in range(0, len(cells), ARRAY):
            some = list(cells[first : first + ARRAY])
            with shielded():  # what is in the queue is known
                pending += list(zip(executor.map_array(Requeued(), some), some, strict=True))
        while pending:
            for pair in list(pending):
                job, cell = pair
                if job.done():
                    pending.remove(pair)
                    try:
                        failure = job.exception()
                    except UncompletedJobError as error:
                        failure = error
                    ended(cell, first_line(failure) if failure else ending(0))
            time.sleep(POLL_S if pending else 0)
    except FailedJobError as error:
        raise UserError(f"the cells cannot be submitted: {first_line(error)}") from None
    finally:
        for job, _ in pending:
            with contextlib.suppress(Exception):
                job.cancel()


class Requeued:
    """`work` for submitit: when time is up, the same again is put into the queue and goes on from its checkpoint."""

    def __call__(self, cell: Cell) -> bool:
        """Runs the cell."""
        return work(cell)

    def checkpoint(self, cell: Cell) -> Any:
        """What to run next, asked for by submitit when the job is about to be ended."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self, cell)


def slurm(folder: Path, settings: Slurm, name: str) -> Any:
    """submitit's executor for Slurm.

    Raises:
        UserError: if Slurm is not here.
    """
    missing = [command for command in ("sbatch", "srun") if shutil.which(command) is None]
    if missing:
        raise UserError(f"executor: slurm: there is no Slurm on this machine (no command {missing[0]}); start the sweep on "
                        f"a login node, or use executor: local")  # fmt: skip
    import submitit

    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
    optional = {f"slurm_{key}": value for key in ("partition", "account", "qos", "constraint")
                if (value := getattr(settings, key)) is not None}  # fmt: skip
    executor.update_parameters(
        name=f"metaser-{name}", timeout_min=settings.time_min, mem_gb=settings.mem_gb, tasks_per_node=1, nodes=1,
        cpus_per_task=settings.cpus_per_task, gpus_per_node=settings.gpus_per_node or None,
        slurm_array_parallelism=settings.at_once, **optional,
    )  # fmt: skip
    return executor


def debug(folder: Path) -> Any:
    """submitit's executor that runs everything in this process."""
    import submitit

    return submitit.AutoExecutor(folder, cluster="debug")
