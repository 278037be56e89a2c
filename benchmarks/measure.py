"""One cell, measured: every contender warmed up, then all of them in turn, round after round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import reference
from benchmarks.process import Pool, Process
from benchmarks.workloads import DOMAIN, Case, Method
from metaser.reporting.results import KEYS

#: What ``rounds.csv`` says of every turn; ``place`` is its place in the round, seconds are of all its iterations.
ROUNDS = (*KEYS, "contender", "round", "place", "iterations", "seconds", "gflops")

#: Meta-iterations that a contender runs before any counts; the last of them says how many make a turn.
WARM_UP = 2


@dataclass(frozen=True)
class Measured:
    """What the turns of a cell gave.

    Attributes:
        rows: One per turn, with the columns `ROUNDS`; the contenders ``gemm`` and ``onednn`` are the machine's peak.
        memory: Contender → its process's peak memory in MiB; None where the system does not tell.
        start_memory: The same before the first meta-iteration: Python, libraries, data.
        threads: Contender → PyTorch's threads within an operation.
    """

    rows: list[dict[str, Any]]
    memory: dict[str, float | None]
    start_memory: dict[str, float | None]
    threads: dict[str, int]


def contenders(method: Method) -> list[str]:
    """Who can run a method."""
    return ["learn2learn", *(["reference"] if method.algorithm in reference.ALGORITHMS else []), "metaser"]


def keys(cell: Case) -> dict[str, Any]:
    """The columns `metaser.reporting.results.KEYS` of a cell."""
    return {"experiment": "bench", "variant": cell.workload.name, "algorithm": cell.method.name, "protocol": "bench",
            "data": DOMAIN, "source": "", "target": "", "shots": cell.workload.shots}  # fmt: skip


def measure(
    cell: Case, operations: int, pool: Pool, peak: Process, rounds: int, turn_s: float, tick: Callable[[], None]
) -> Measured:
    """Times a cell.

    Args:
        cell: The workload and the method.
        operations: Of one meta-iteration (`benchmarks.flops`).
        pool: Gives the contenders' processes.
        peak: The process that measures the machine; it takes a turn in every round.
        rounds: How often everyone takes a turn; the order is reversed from one round to the next.
        turn_s: Seconds that a turn takes, about; it is one meta-iteration at least.
        tick: Called after every round.

    Raises:
        UserError: if a contender's process ends.
    """
    rows: list[dict[str, Any]] = []
    with pool.running(contenders(cell.method), f"{cell.workload.name}, {cell.method.name}") as running:
        ready = prepare(running, cell)
        counts = {name: turn_length(process, turn_s) for name, process in running.items()}
        for number in range(1, rounds + 1):
            order = [*running, "peak"] if number % 2 else ["peak", *reversed(running)]
            for place, name in enumerate(order):
                common = {**keys(cell), "round": number, "place": place}
                if name == "peak":
                    rows += [{**common, "contender": library, "iterations": None, "seconds": None, "gflops": gflops}
                             for library, gflops in peak.ask(peak=True).items()]  # fmt: skip
                    continue
                count = counts[name]
                seconds = running[name].ask(iterations=count)["seconds"]
                rows.append({**common, "contender": name, "iterations": count, "seconds": seconds,
                             "gflops": operations * count / seconds / 1e9})  # fmt: skip
            tick()
        memory = {name: process.ask(memory=True)["memory_mib"] for name, process in running.items()}
    began, threads = ({name: reply[key] for name, reply in ready.items()} for key in ("memory_mib", "threads"))
    return Measured(rows, memory, began, threads)


def prepare(running: dict[str, Process], cell: Case) -> dict[str, dict[str, Any]]:
    """Tells all processes at once to prepare a cell; their answers by name."""
    for process in running.values():
        process.send(prepare=asdict(cell))
    return {name: process.receive() for name, process in running.items()}


def turn_length(process: Process, turn_s: float) -> int:
    """Warms a contender up, and says how many of its meta-iterations make a turn."""
    for _ in range(WARM_UP):
        seconds = process.ask(iterations=1)["seconds"]
    return max(1, round(turn_s / seconds))
