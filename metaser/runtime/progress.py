"""Progress with an estimate: a bar on a terminal, a line now and then elsewhere, always on standard error."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Off a terminal: seconds between two lines.
EVERY_S = 20.0

#: The variable that silences progress and remarks, also those of processes that a command starts.
QUIET = "METASER_QUIET"


def say(remark: str) -> None:
    """A line on standard error, unless the user wants it quiet."""
    if not os.environ.get(QUIET):
        print(f"metaser: {remark}", file=sys.stderr, flush=True)


@functools.cache
def say_once(remark: str) -> None:
    """As `say`, the first time that a process says it."""
    say(remark)


@contextlib.contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress display for as long as the block runs; of several ranks the first alone has one, and none where it is quiet.

    Args:
        label: What is being done.
        total: Steps in all, where known beforehand.

    Yields:
        A function of (steps done, steps in all).
    """
    if os.environ.get("RANK", "0") != "0" or os.environ.get(QUIET):
        yield lambda done, of: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines(label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left:"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def lines(label: str) -> Callable[[int, int], None]:
    """Prints "label: 120 of 600, about 2 min left" every `EVERY_S` seconds."""
    started = spoken = time.monotonic()

    def update(done: int, of: int) -> None:
        nonlocal spoken
        now = time.monotonic()
        if done and now - spoken >= EVERY_S:
            spoken = now
            left = (now - started) * (of - done) / done
            say(f"{label}: {done} of {of}, about {duration(left)} left")

    return update


def duration(seconds: float) -> str:
    """``75.2`` as "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
