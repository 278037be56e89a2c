"""``python -m benchmarks bench`` and ``scaling``: how fast training is; run it where this folder is, as ``make bench`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaser.cli import PLAIN, main
from metaser.cli.common import stoppable

app = typer.Typer(help="How fast training is on this machine.", pretty_exceptions_enable=False, **PLAIN)

Workloads = Annotated[
    list[str] | None, typer.Option(help="Only this workload, such as lstm; may be repeated.", show_default=False)
]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny sizes: shows that it works, its times mean nothing.")]


@app.command(short_help="Time training beside stock learn2learn.")
def bench(
    workload: Workloads = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Only this algorithm, such as fomaml; may be repeated.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds per workload and algorithm.")] = 7,
    quick: Quick = False,
    cost: Annotated[bool, typer.Option(help="Also measure cost against tasks, shots and inner steps.")] = True,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/bench/machine.")] = Path("results"),
) -> None:
    """Time training beside stock learn2learn and MetaSER's published way, taking turns on this machine.

    Example: python -m benchmarks bench --workload lstm --algorithm fomaml
    """
    from benchmarks.run import bench as run_benchmark

    with stoppable("earlier results are as they were"):
        run_benchmark(workload or (), algorithm or (), rounds, quick, cost, results)


@app.command(short_help="Time processes side by side.")
def scaling(
    workload: Workloads = None,
    rounds: Annotated[int, typer.Option(help="Turns of every contender.")] = 5,
    quick: Quick = False,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/scaling/machine.")] = Path("results"),
) -> None:
    """Time ranks on this machine, and calculate how many of them one run is worth, up to 1,024.

    Example: python -m benchmarks scaling --workload lstm
    """
    from benchmarks.scaling.run import scaling as measure_scaling

    with stoppable("earlier results are as they were"):
        measure_scaling(workload or (), rounds, quick, results)


if __name__ == "__main__":
    main(app)
