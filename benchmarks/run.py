"""``make bench``: everything chosen is measured, then written to ``RESULTS/bench/<machine>/``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import cost, flops, plots, report
from benchmarks.measure import ROUNDS, measure
from benchmarks.process import REMOVED, Pool, Process
from benchmarks.summary import summarise
from benchmarks.workloads import METHODS, WORKLOADS, Case, Workload, choose, quick
from metaser.reporting import results
from metaser.reporting.folder import ResultsFolder
from metaser.runtime.errors import UserError
from metaser.runtime.files import write_text
from metaser.runtime.parallel import available_cores
from metaser.runtime.progress import progress
from metaser.runtime.provenance import provenance

#: Seconds that a contender's turn takes, about; one meta-iteration at least.
TURN_S = 0.7
QUICK_TURN_S = 0.01


def bench(
    workloads: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    rounds: int = 7,
    tiny: bool = False,
    sweep: bool = True,
    out: Path = Path("results"),
) -> Path:
    """Times the contenders and writes what was found.

    Args:
        workloads: Names of `benchmarks.workloads.WORKLOADS`; all when empty.
        algorithms: Names of `benchmarks.workloads.METHODS`; all when empty.
        rounds: Rounds per cell; with ``tiny`` two at most.
        tiny: Tiny sizes, to see that everything works; written beside the real results, to ``<machine>-quick``.
        sweep: Also measure cost against tasks, shots and inner steps, for those chosen that are swept.
        out: The folder that holds the results of everything.

    Returns:
        The results folder. Nothing is written unless everything was measured.

    Raises:
        UserError: for an unknown name, a number of rounds below 1, a folder that cannot be written, or a contender's
            process that ends.
    """
    if rounds < 1:
        raise UserError(f"--rounds: {rounds} is impossible; 1 or more, 7 for intervals that mean something")
    chosen = {name: WORKLOADS[name] for name in choose(list(workloads), WORKLOADS, "--workload")}
    methods = choose(list(algorithms), METHODS, "--algorithm")
    if tiny:
        chosen, rounds = {name: quick(workload) for name, workload in chosen.items()}, min(rounds, 2)
    machine = f"cpu-{available_cores()}-cores" + ("-quick" if tiny else "")
    folder = ResultsFolder(out / "bench" / machine)
    with folder.writing() as path:
        Bench(chosen, methods, rounds, tiny, sweep).run(path)
    print((folder.final / "table.md").read_text(encoding="utf-8"))
    print(f"written to {folder.final}")
    return folder.final


class Bench:
    """One run of the benchmark; the arguments are those of `bench`, checked."""

    def __init__(
        self, workloads: dict[str, Workload], methods: Sequence[str], rounds: int, tiny: bool, sweep: bool
    ) -> None:
        self.workloads, self.rounds, self.tiny = workloads, rounds, tiny
        self.cells = [Case(workload, METHODS[name]) for workload in workloads.values() for name in methods]
        self.turn_s = QUICK_TURN_S if tiny else TURN_S
        self.sweep = cost.QUICK if tiny else cost.Sweep()
        self.swept = cost.pairs(list(workloads), methods) if sweep else []
        self._started = time.monotonic()
        self._memory: dict[tuple[str, str, str], float | None] = {}
        self._start_memory: dict[tuple[str, str, str], float | None] = {}
        self._threads: dict[str, int] = {}

    def run(self, folder: Path) -> None:
        """Measures, then writes every file into ``folder``."""
        each = len(cost.points(next(iter(self.workloads.values())), "fomaml", self.sweep))
        total, done = len(self.cells) * self.rounds + len(self.swept) * each, 0
        with progress("benchmark, rounds", total) as update:

            def tick() -> None:
                nonlocal done
                done += 1
                update(done, total)

            with Pool(keep=self.tiny) as pool:
                rounds = self.measure_cells(folder, pool, tick)
                points = self.measure_cost(folder, pool, tick)
        self.write(folder, rounds, points)

    def measure_cells(self, folder: Path, pool: Pool, tick: Callable[[], None]) -> pd.DataFrame:
        """``rounds.csv``: every turn of every cell."""
        rows = []
        with Process("peak", "the measurement of matrix products") as peak:
            for cell in self.cells:
                operations = flops.meta_iteration(cell.workload, cell.method)
                found = measure(cell, operations, pool, peak, self.rounds, self.turn_s, tick)
                rows += found.rows
                self._threads |= found.threads
                for contender, mib in found.memory.items():
                    place = cell.workload.name, cell.method.name, contender
                    self._memory[place], self._start_memory[place] = mib, found.start_memory[contender]
        rounds = pd.DataFrame(rows)[list(ROUNDS)].astype({"iterations": "Int64"})
        results.write_csv(rounds, folder / "rounds.csv")
        return rounds

    def measure_cost(self, folder: Path, pool: Pool, tick: Callable[[], None]) -> pd.DataFrame:
        """``cost.csv``, where there is something to sweep: every point."""
        rows = [row for workload, algorithm in self.swept
                for row in cost.measure(self.workloads[workload], algorithm, self.sweep, pool, tick)]  # fmt: skip
        points = pd.DataFrame(rows, columns=list(cost.COST))
        if rows:
            results.write_csv(points, folder / "cost.csv")
        return points

    def write(self, folder: Path, rounds: pd.DataFrame, points: pd.DataFrame) -> None:
        """``summary.csv``, ``run.json``, plots and ``table.md``."""
        made = provenance(Path(__file__).parent)
        conditions = self.conditions(made)
        summary = summarise(rounds, self._memory, self.workloads)
        results.write_csv(summary, folder / "summary.csv")
        size = ", QUICK: tiny sizes" if self.tiny else ""
        caption = f"{conditions['processor']}, {conditions['cores']} cores{size}"
        relative = summary[summary["metric"] == "seconds_relative_to_fomaml"]
        shown = relative[relative["algorithm"].isin(list(plots.REPORTED))]
        if len(shown):
            plots.report_times(shown, caption, folder / "report_times.png")
        if len(points):
            plots.cost(points, caption, folder / "cost.png")
        write_text(folder / "table.md", report.table(rounds, summary, points, self.workloads, conditions))
        wall = round(time.monotonic() - self._started, 1)
        results.write_json({"conditions": conditions, "wall_seconds": wall, **made}, folder / "run.json")

    def conditions(self, made: dict[str, Any]) -> dict[str, Any]:
        """Under which the numbers hold."""
        return {
            "cores": available_cores(),
            "processor": made["hardware"]["processor"],
            "torch": metadata.version("torch"),
            "learn2learn": metadata.version("learn2learn"),
            "threads": self._threads,
            "start_memory_mib": round(max((mib or 0.0 for mib in self._start_memory.values()), default=0.0)),
            "malloc": {"metaser": "tuned by metaser.runtime.allocator", "others": "the system's defaults"},
            "removed_from_environment": sorted(name for name in os.environ if name.startswith(REMOVED)),
            "rounds": self.rounds,
            "turn_s": self.turn_s,
            "quick": self.tiny,
        }
