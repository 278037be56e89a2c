"""``metaser run``, ``sweep``, ``render`` and ``report``: experiments and their results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from metaser.cli.common import Root, Settings, Several, stoppable, training
from metaser.runtime.errors import PartialError

RESULTS = Path("results")


def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment's folder, such as experiments/fmaml.")],
    variant: Annotated[str, typer.Option(help="Which of its variants, such as 5shot.")] = "",
    protocol: Annotated[Several, typer.Option(help="Only this protocol, such as strict; may be repeated.")] = None,
    setting: Settings = None,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/experiment/variant/data.")] = RESULTS,
    root: Root = None,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped run of the same configuration.")] = True,
    checkpoint_every: Annotated[
        int, typer.Option(min=0, help="Meta-iterations between checkpoints; 0: one a minute.")
    ] = 0,
    processes: Annotated[
        int, typer.Option(min=0, envvar="METASER_PROCESSES", help="Models trained side by side; 0: one per core.")
    ] = 0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also write profile.txt: where training's time goes.")
    ] = False,
) -> None:
    """Run an experiment: train, test, write CSV files, plots and a table.

    A model that fails stops no other; the same command then does only what is left.

    Example: metaser run experiments/fmaml --variant 5shot --set training.iterations=100
    """
    training()
    from metaser.config.folder import load
    from metaser.experiment import Run, RunOptions

    module, options = load(experiment), RunOptions(resume, checkpoint_every, profile, processes)
    with stoppable("earlier results are as they were, and the same command goes on from here"):
        try:
            Run(experiment, variant, setting or [], results, protocol or [], root, options).carry_out(module.render)
        except PartialError as error:
            for line in error.lines:
                print(f"metaser: {line}", file=sys.stderr)
            raise typer.Exit(1) from None


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep, such as experiments/fmaml/sweep.yaml.")],
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/sweeps/name.")] = RESULTS,
    root: Root = None,
) -> None:
    """Run a grid of algorithms, targets, variants and seeds, on this machine or by Slurm; what is done is not done again.

    Example: metaser sweep experiments/fmaml/sweep.yaml
    """
    training()
    from metaser.experiment.sweep.run import sweep as run_sweep

    with stoppable("finished cells are kept, and the same command goes on from here"):
        whole = run_sweep(file, results, root)
    if not whole:
        raise typer.Exit(1)


def render(
    experiment: Annotated[Path, typer.Argument(help="The experiment's folder, such as experiments/fmaml.")],
    folders: Annotated[list[Path], typer.Argument(help="Results folders of its runs.")],
) -> None:
    """Draw a run's plots and table from its CSV files; nothing is trained.

    Of an unfinished run, whose folder ends in .partial, the finished models are drawn, marked as incomplete.

    Example: metaser render experiments/fmaml results/fmaml/5shot/real
    """
    from metaser.config.folder import load
    from metaser.reporting.recording import render as draw
    from metaser.reporting.tables import read_paper

    module, paper = load(experiment), read_paper(experiment / "paper.csv")
    for folder in folders:
        draw(folder, module.render, paper)
        print(f"written to {folder}")


def report(
    results: Annotated[Path, typer.Option(help="The folder that holds the results of all experiments.")] = RESULTS,
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the results folder by default.")] = None,
    experiments: Annotated[Path, typer.Option(help="Where methods' names and papers' numbers are.")] = Path(
        "experiments"
    ),
) -> None:
    """Make one HTML page of all results beside the papers', which opens without a network.

    Example: metaser report --results results --out results/report.html
    """
    from metaser.reporting.page import report as write_report

    out = out or results / "report.html"
    write_report(results, out, experiments)
    print(f"written to {out}")
