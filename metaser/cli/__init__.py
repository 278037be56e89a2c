"""The ``metaser`` command: one file here per group of its commands."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from metaser import __version__
from metaser.cli import data, models, runs
from metaser.runtime.errors import UserError
from metaser.runtime.progress import QUIET

EXIT_CODES = """Exit codes: 0 done; 1 broken, missing or failed in part; 2 a mistake; 130 Ctrl-C."""

#: No panels: the commands fit on one screen.
PLAIN: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

app = typer.Typer(
    help="Few-shot, meta-learned speech emotion recognition.",
    epilog=EXIT_CODES, pretty_exceptions_enable=False, **PLAIN,
)  # fmt: skip
corpora = typer.Typer(help="The corpora: what is there, and whether it is sound.", **PLAIN)

COMMANDS: dict[Callable[..., None], str] = {
    runs.run: "Run an experiment: CSV files, plots, a table.",
    runs.sweep: "Run a grid of experiments, here or by Slurm.",
    runs.render: "Draw a finished run anew from its CSV files.",
    runs.report: "Make one HTML page of all results.",
    models.train: "Train a model, to be adapted later.",
    models.adapt: "Adapt a model to a few labelled clips.",
    models.predict: "Predict the emotion of clips.",
}
for function, short in COMMANDS.items():
    app.command(short_help=short)(function)
app.add_typer(corpora, name="data", short_help="The corpora: list, fetch, verify, probe.")
corpora.command("list", short_help="Which corpora are there.")(data.list_corpora)
corpora.command(short_help="Download those that are free to fetch.")(data.fetch)
corpora.command(short_help="Decode every file, name what is wrong.")(data.verify)
corpora.command(short_help="Measure how hard the data are.")(data.probe)


def version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        print(f"metaser {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on standard error.")] = False,
) -> None:
    """Options of the command itself."""
    if quiet:
        os.environ[QUIET] = "1"


def main(command: typer.Typer = app) -> None:
    """The entry point: a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except UserError as error:
        print(f"metaser: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def script(file: str) -> None:
    """``python experiments/NAME/run.py …`` is ``metaser run experiments/NAME …``.

    Args:
        file: The script's own path.
    """
    sys.argv[1:1] = ["run", str(Path(file).parent)]
    main()
