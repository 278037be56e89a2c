"""``make scaling``: what is measured and what is calculated from it, written to ``RESULTS/scaling/<machine>/``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import limit, measure, page
from benchmarks.scaling.worker import Job
from benchmarks.workloads import WORKLOADS, choose
from metaser.reporting import results
from metaser.reporting.folder import ResultsFolder
from metaser.runtime.errors import UserError
from metaser.runtime.files import write_text
from metaser.runtime.parallel import available_cores
from metaser.runtime.progress import progress
from metaser.runtime.provenance import provenance

#: What is measured when nothing is chosen: the papers' networks for speech, and the one with the largest message.
CHOSEN = ("lstm", "fmaml-conv", "mnist-cnn")

ALGORITHM = "fomaml"


def scaling(workloads: Sequence[str] = (), rounds: int = 5, tiny: bool = False, out: Path = Path("results")) -> Path:
    """Measures ranks on this machine and calculates how many are worth having.

    Args:
        workloads: Names of `benchmarks.workloads.WORKLOADS`; `CHOSEN` when empty.
        rounds: Turns of every contender.
        tiny: Tiny sizes, to see that everything works; written beside the real results, to ``<machine>-quick``.
        out: The folder that holds the results of everything.

    Returns:
        The results folder. Nothing is written unless everything was measured.

    Raises:
        UserError: for an unknown name, a number of rounds below 1, a folder that cannot be written, or ranks that end
            badly.
    """
    if rounds < 1:
        raise UserError(f"--rounds: {rounds} is impossible; 1 or more")
    names, cores = choose(list(workloads or CHOSEN), WORKLOADS, "--workload"), available_cores()
    folder = ResultsFolder(out / "scaling" / (f"cpu-{cores}-cores" + ("-quick" if tiny else "")))
    jobs = [Job(name, ALGORITHM, seconds=0.05 if tiny else 4.0, tiny=tiny) for name in names]
    total, done, started = len(jobs) * rounds * len(measure.contenders(cores)), 0, time.monotonic()
    with folder.writing() as path:
        with progress("scaling, turns", total) as update:

            def tick() -> None:
                nonlocal done
                done += 1
                update(done, total)

            found = measure.measure(jobs, rounds, cores, tick)
        costs, link = measure.costs(found), measure.link(found)
        calculated = limit.table(costs, [link, *limit.LINKS])
        results.write_csv(found, path / "rounds.csv")
        results.write_csv(calculated, path / "limit.csv")
        made = provenance(Path(__file__).parent)
        caption = f"{made['hardware']['processor']}, {cores} cores" + (", QUICK: tiny sizes" if tiny else "")
        page.plot(calculated, caption, path / "limit.png")
        write_text(path / "table.md", page.table(found, calculated, costs, link, caption))
        wall = round(time.monotonic() - started, 1)
        results.write_json({"rounds": rounds, "quick": tiny, "wall_seconds": wall, **made}, path / "run.json")
    print((folder.final / "table.md").read_text(encoding="utf-8"))
    print(f"written to {folder.final}")
    return folder.final
