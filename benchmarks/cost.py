"""What a meta-iteration costs as tasks, shots or inner steps grow: ours beside learn2learn's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from benchmarks.measure import WARM_UP, keys, prepare
from benchmarks.process import Pool, Process
from benchmarks.workloads import METHODS, Case, Workload
from metaser.reporting.results import KEYS

#: The columns of ``cost.csv``: medians over rounds; ``speedup_low`` and ``speedup_high`` are its smallest and largest round.
COST = (*KEYS, "varied", "tasks", "inner_steps", "rounds", "metaser_ms", "learn2learn_ms", "speedup", "speedup_low",
        "speedup_high")  # fmt: skip

WORKLOADS = ("lstm", "fmaml-conv")
ALGORITHMS = ("fomaml", "maml")
CONTENDERS = ("learn2learn", "metaser")


@dataclass(frozen=True)
class Sweep:
    """What is varied, and how well each point is measured.

    Attributes:
        tasks: Tasks per meta-iteration.
        shots: K, at ``base_tasks`` tasks.
        steps: k, at ``base_tasks`` tasks.
        base_tasks: See there.
        rounds: Rounds per point at most.
        turn_s: As in `benchmarks.measure.measure`.
        point_s: Seconds after which a point gets no further round; one iteration each, at least, is measured.
    """

    tasks: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    shots: tuple[int, ...] = (1, 5, 10, 20)
    steps: tuple[int, ...] = (1, 2, 5, 10)
    base_tasks: int = 4
    rounds: int = 3
    turn_s: float = 0.1
    point_s: float = 2.0


QUICK = Sweep((1, 2), (1, 2), (1, 2), base_tasks=2, rounds=1, turn_s=0.0)


def pairs(workloads: Sequence[str], algorithms: Sequence[str]) -> list[tuple[str, str]]:
    """The (workload, algorithm) pairs among those chosen that are swept."""
    return [(workload, algorithm) for workload in workloads if workload in WORKLOADS
            for algorithm in algorithms if algorithm in ALGORITHMS]  # fmt: skip


def points(workload: Workload, algorithm: str, sweep: Sweep) -> list[tuple[str, Case]]:
    """(what is varied, cell) for every point of a workload and an algorithm."""
    method, base = METHODS[algorithm], replace(workload, meta_batch=sweep.base_tasks)
    return [
        *(("tasks", Case(replace(workload, meta_batch=value), method)) for value in sweep.tasks),
        *(("shots", Case(replace(base, shots=value), method)) for value in sweep.shots),
        *(("inner steps", Case(base, replace(method, steps=value))) for value in sweep.steps),
    ]


def measure(
    workload: Workload, algorithm: str, sweep: Sweep, pool: Pool, tick: Callable[[], None]
) -> list[dict[str, Any]]:
    """Rows of ``cost.csv`` of a workload and an algorithm; ``tick`` is called after every point.

    Raises:
        UserError: if a contender's process ends.
    """
    rows = []
    cells = points(workload, algorithm, sweep)
    with pool.running(CONTENDERS, f"cost of {workload.name}, {algorithm}") as running:
        prepare(running, cells[0][1])
        for process in running.values():
            process.ask(iterations=WARM_UP)
        for varied, cell in cells:
            prepare(running, cell)
            rows.append(row(varied, cell, point(running, sweep)))
            tick()
    return rows


def point(running: dict[str, Process], sweep: Sweep) -> list[dict[str, float]]:
    """Per round: contender → seconds per meta-iteration.

    The first iteration of each only says how many make a turn, unless they take so long that they are all there is.
    """
    first = {name: process.ask(iterations=1)["seconds"] for name, process in running.items()}
    counts = {name: max(1, round(sweep.turn_s / seconds)) for name, seconds in first.items()}
    spent, rounds = sum(first.values()), [first]
    if spent > sweep.point_s:
        return rounds
    rounds = []
    while len(rounds) < sweep.rounds and (not rounds or spent < sweep.point_s):
        order = list(running) if len(rounds) % 2 else list(reversed(running))
        seconds = {name: running[name].ask(iterations=counts[name])["seconds"] for name in order}
        spent += sum(seconds.values())
        rounds.append({name: seconds[name] / counts[name] for name in order})
    return rounds


def row(varied: str, cell: Case, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """A row of ``cost.csv``."""
    speedups = [seconds["learn2learn"] / seconds["metaser"] for seconds in rounds]
    return {**keys(cell), "varied": varied, "tasks": cell.workload.meta_batch, "inner_steps": cell.method.steps,
            "rounds": len(rounds), **{f"{name}_ms": 1000 * median(r[name] for r in rounds) for name in CONTENDERS},
            "speedup": median(speedups), "speedup_low": min(speedups), "speedup_high": max(speedups)}  # fmt: skip
