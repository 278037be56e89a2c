"""What commands share: options, and how they end when they are stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from metaser.runtime.errors import StoppedError

Root = Annotated[Path | None, typer.Option("--root", help="Data root, instead of METASER_DATA.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting over the configuration's; may be repeated."),
]
#: An option that may be repeated.
Several = list[str] | None
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def stoppable(kept: str) -> Iterator[None]:
    """Ctrl-C ends the command in one line that says what is ``kept``, with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"metaser: stopped; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None


def training() -> None:
    """What a command that trains does first: the allocator is set up, and SIGTERM stops it as Ctrl-C does."""
    from metaser.runtime.allocator import tune

    tune()
    signal.signal(signal.SIGTERM, terminated)


def terminated(*_: object) -> None:
    """What a scheduler's or torchrun's SIGTERM does to a run.

    Raises:
        StoppedError: always.
    """
    raise StoppedError("stopped by a signal (SIGTERM); the same command goes on from the last checkpoint")
