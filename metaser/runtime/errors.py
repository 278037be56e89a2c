"""The one exception for a user's mistake: its message is one line, shown without a traceback, with exit code 2."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence

#: What ends a line on some terminal, or moves about on it; a file's name may hold any of them.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class UserError(Exception):
    """Something the user can mend. The message names the file, key or label and says what would be right."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(message))


def plain(text: str) -> str:
    """A text as one line: control characters as Python writes them, such as ``\\n``."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def first_line(error: BaseException) -> str:
    """An exception's message as one line, whatever a library put into it."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class StoppedError(UserError):
    """The run could go on from where it is: what it has done so far stays, and the same command takes it up."""


class PartialError(UserError):
    """Part of the work failed; the rest is done, and nothing of it is lost.

    Attributes:
        lines: What failed and why, a line each, and what to do.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(plain(line) for line in lines)
        super().__init__("; ".join(self.lines))


class DivergedError(UserError):
    """A loss or a weight is no longer a finite number.

    Attributes:
        iteration: The meta-iteration in which it happened.
    """

    def __init__(self, message: str = "", iteration: int = 0) -> None:
        super().__init__(message)
        self.iteration = iteration


class UnwritableError(StoppedError):
    """A file cannot be written, such as on a full disk."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A clause for an error message: the nearest known name, or all of them.

    Args:
        wrong: The name that is not known.
        known: The names that are.

    Returns:
        ``"did you mean 'emodb'?"`` or ``"known: emodb, tess"``.
    """
    names = sorted(str(name) for name in known)
    lowered = {name.lower(): name for name in reversed(names)}
    match = difflib.get_close_matches(str(wrong).lower(), list(lowered), n=1, cutoff=0.6)
    return f"did you mean '{lowered[match[0]]}'?" if match else f"known: {', '.join(names)}"


def shown(value: object) -> str:
    """A value as an error message shows it: in one line, and not all of it where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return short.repr(value)
    except ValueError:
        return "a number of thousands of digits"
