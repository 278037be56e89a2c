"""Where cells are run on this machine: processes that never outlive the sweep, or one after another in this one.

A local cell is forked from a server process that has imported everything and done nothing (multiprocessing's forkserver),
so it starts in no time and shares no threads with anybody.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

import torch

from metaser.experiment.sweep.cell import Cell, work
from metaser.runtime.parallel import available_cores
from metaser.runtime.processes import ending, follow_parent, shielded, stop

#: Called with a cell that ended, and how, for the case that the cell itself could not tell.
Ended = Callable[[Cell, str], None]


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


def debug(cells: Sequence[Cell], ended: Ended) -> None:
    """Runs cells one after another in this process, where a debugger can follow them."""
    for cell in cells:
        work(cell)
        ended(cell, ending(0))
