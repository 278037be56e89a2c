"""Cells on this machine: so many at a time, each with its share of the cores, or a GPU.

Not by submitit's local executor: it starts all jobs at once, imports everything again for each (seconds of a core), goes on when
the sweep is killed, and prints a traceback per job at Ctrl-C.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from metaser.experiment.pool import Work, side_by_side
from metaser.experiment.sweep.cell import Cell, work
from metaser.runtime.parallel import available_cores

#: Called with a cell that ended, and how, for the case that the cell itself could not tell.
Ended = Callable[[Cell, str], None]


def local(cells: Sequence[Cell], workers: int | None, device: str, ended: Ended) -> None:
    """Runs cells in processes that never outlive the sweep.

    Args:
        cells: What to run; started in this order.
        workers: At the same time; one per core when not given, or on GPUs one per GPU.
        device: ``cpu`` or ``cuda``.
        ended: Told of every cell that ended.
    """
    count = workers or (max(1, torch.cuda.device_count()) if device == "cuda" else available_cores())
    parts = shares(all_cores(), min(count, len(cells)))
    starts = [partial(worker, cores, environment(number, device)) for number, cores in enumerate(parts)]
    side_by_side(starts, [[cell] for cell in cells], lambda cell, steps: None, ended)


def worker(cores: Sequence[int], variables: Mapping[str, str]) -> Work[Cell]:
    """Called in a process of its own; gives what runs cells there. Why one failed is in its folder."""
    os.environ.update(variables)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    return lambda cell, tick: "" if work(cell) else cell.error()


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
