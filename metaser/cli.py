"""The ``metaser`` command. Thin: each command checks its arguments and calls the library.

Exit codes: 0 done, 1 `metaser data verify` found something broken, `metaser data fetch` got less than was asked for or a cell
of `metaser sweep` failed, 2 a user's mistake (one line on standard error), 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from metaser import __version__
from metaser.errors import StoppedError, UserError

app = typer.Typer(
    help="Few-shot, meta-learned speech emotion recognition.", no_args_is_help=True, pretty_exceptions_enable=False,
    add_completion=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
data = typer.Typer(help="The corpora: what is there, and whether it is sound.", no_args_is_help=True)
app.add_typer(data, name="data")

Root = Annotated[Path | None, typer.Option("--root", help="Data root, instead of METASER_DATA.", show_default=False)]


def version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(f"metaser {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment's folder, such as experiments/fmaml.")],
    variant: Annotated[str, typer.Option(help="Which of its variants, such as 5shot.")] = "",
    protocol: Annotated[
        list[str] | None, typer.Option(help="Only this protocol, such as strict; may be repeated.", show_default=False)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting over the configuration's; may be repeated."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/experiment/variant/data.")] = Path("results"),
    root: Root = None,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped run of the same configuration.")] = True,
    checkpoint_every: Annotated[
        int, typer.Option(min=0, help="Meta-iterations from one checkpoint to the next; 0: one a minute.")
    ] = 0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also write profile.txt: where training's time goes.")
    ] = False,
) -> None:
    """Run an experiment: train, test, write CSV files, plots and a table.

    Example: metaser run experiments/fmaml --variant 5shot --set training.iterations=100
    """
    from metaser.allocator import tune

    tune()
    signal.signal(signal.SIGTERM, terminated)
    from metaser.experiment import Going, Run
    from metaser.loading import load

    module, going = load(experiment), Going(resume, checkpoint_every, profile)
    with stoppable("earlier results are as they were, and the same command goes on from here"):
        module.run(Run(experiment, variant, setting or [], results, protocol or [], root, going))


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep, such as experiments/fmaml/sweep.yaml.")],
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/sweeps/name.")] = Path("results"),
    root: Root = None,
) -> None:
    """Run a grid of algorithms, targets, variants and seeds, on this machine or by Slurm; what is done is not done again.

    Example: metaser sweep experiments/fmaml/sweep.yaml
    """
    from metaser.allocator import tune

    tune()
    signal.signal(signal.SIGTERM, terminated)
    from metaser.sweep.run import sweep as run_sweep

    with stoppable("finished cells are kept, and the same command goes on from here"):
        whole = run_sweep(file, results, root)
    if not whole:
        raise typer.Exit(1)


@app.command()
def render(
    experiment: Annotated[Path, typer.Argument(help="The experiment's folder, such as experiments/fmaml.")],
    folders: Annotated[list[Path], typer.Argument(help="Results folders of its runs.")],
) -> None:
    """Draw a finished run's plots and table anew from its CSV files; nothing is trained.

    Example: metaser render experiments/fmaml results/fmaml/5shot/real
    """
    from metaser.loading import load
    from metaser.reporting.finished import Finished
    from metaser.reporting.tables import read_paper

    module, paper = load(experiment), read_paper(experiment / "paper.csv")
    for folder in folders:
        finished = Finished(folder)
        module.render(finished, paper[paper["variant"] == finished.first.variant])
        print(f"written to {folder}")


@app.command()
def bench(
    workload: Annotated[
        list[str] | None, typer.Option(help="Only this workload, such as lstm; may be repeated.", show_default=False)
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Only this algorithm, such as fomaml; may be repeated.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds per workload and algorithm.")] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: shows that it works, its times mean nothing.")
    ] = False,
    cost: Annotated[bool, typer.Option(help="Also measure cost against tasks, shots and inner steps.")] = True,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/bench/machine.")] = Path("results"),
) -> None:
    """Time training beside stock learn2learn and MetaSER's published way, taking turns on this machine.

    Example: metaser bench --workload lstm --algorithm fomaml
    """
    from metaser.bench.run import bench as run_benchmark

    with stoppable("earlier results are as they were"):
        run_benchmark(workload or (), algorithm or (), rounds, quick, cost, results)


@app.command()
def scaling(
    workload: Annotated[
        list[str] | None, typer.Option(help="Only this workload, such as lstm; may be repeated.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(help="Turns of every contender.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: shows that it works, its times mean nothing.")
    ] = False,
    results: Annotated[Path, typer.Option(help="Where results go: RESULTS/scaling/machine.")] = Path("results"),
) -> None:
    """Time ranks on this machine, and calculate how many of them one run is worth, up to 1,024.

    Example: metaser scaling --workload lstm
    """
    from metaser.scaling.run import scaling as measure_scaling

    with stoppable("earlier results are as they were"):
        measure_scaling(workload or (), rounds, quick, results)


@data.command("list")
def list_corpora(root: Root = None) -> None:
    """Show every corpus: where it is, or how to get it.

    Example: metaser data list
    """
    from metaser.corpora.listing import listing
    from metaser.files import data_root

    print(listing(data_root(root)))


@data.command("fetch")
def fetch(
    names: Annotated[list[str], typer.Argument(help="Corpora to fetch.")],
    root: Root = None,
) -> None:
    """Download and unpack corpora that are free to fetch; for the others, say where and how to apply.

    Ends with 1 where a corpus must be applied for, or has fewer clips than its release.

    Example: metaser data fetch ravdess emodb
    """
    from metaser.corpora.fetch import fetch_all
    from metaser.files import data_root

    with stoppable("what has come is kept, and the same command goes on from there"):
        if not fetch_all(names, data_root(root)):
            raise typer.Exit(1)


@data.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Corpora to verify; all that are there by default.")] = None,
    root: Root = None,
) -> None:
    """Decode every file, compare the counts with the release's, and name what is wrong.

    Example: metaser data verify emodb tess
    """
    from metaser.corpora.listing import verify_all
    from metaser.files import data_root

    if not verify_all(names or [], data_root(root)):
        raise typer.Exit(1)


@data.command("probe")
def probe(
    names: Annotated[list[str] | None, typer.Argument(help="Corpora; the built-in synthetic one by default.")] = None,
    recipe_name: Annotated[str, typer.Option("--recipe", help="The feature recipe.")] = "fmaml-long",
    root: Root = None,
) -> None:
    """Measure how hard the data are: a linear classifier within languages (speakers left out) and across them.

    Example: metaser data probe emodb ravdess emovo
    """
    from metaser.baselines import linear
    from metaser.corpora import locate
    from metaser.corpora.base import concatenate
    from metaser.features import extract, recipe
    from metaser.files import data_root
    from metaser.progress import progress

    chosen, place = recipe(recipe_name), data_root(root)
    with progress("preparing corpora") as update:
        found = [locate(name, place, update) for name in dict.fromkeys(names or ["synthetic"])]
    with progress(f"extracting features ({chosen.name})") as update:
        features = extract(concatenate(corpus.table(folder) for corpus, folder in found), chosen, update)
    scores = linear.probe(features.x, features.table, features.lengths)
    print(scores.to_string(index=False, float_format="{:.3f}".format))
    print(
        scores.groupby("protocol", sort=False)[["accuracy", "uar", "chance"]]
        .mean()
        .to_string(float_format="{:.3f}".format)
    )


@contextlib.contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Ctrl-C ends the command in one line that says what is ``kept``, with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"metaser: stopped; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None


def terminated(*_: object) -> None:
    """What a scheduler's or torchrun's SIGTERM does to a run.

    Raises:
        StoppedError: always.
    """
    raise StoppedError("stopped by a signal (SIGTERM); the same command goes on from the last checkpoint")


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        print(f"metaser: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
