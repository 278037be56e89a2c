"""A time after which what is still running fails, whatever it waits for."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

#: Seconds after which a process or a wait is taken to hang; many times what any takes on a busy machine.
LIMIT = 240


@contextmanager
def limit(seconds: float, what: Callable[[], str]) -> Iterator[None]:
    """Fails the test with what was going on, and where; again after a while, as a block's end may wait, too.

    Limits may be nested; they work in the main thread. Code that heeds no signal is left to `faulthandler_timeout`.
    """

    def late(_: int, frame: FrameType | None) -> None:
        place = "".join(traceback.format_stack(frame))
        raise pytest.fail.Exception(f"{what()}: still at it after {seconds:g} s\n{place}", pytrace=False) from None

    began, handler = time.monotonic(), signal.signal(signal.SIGALRM, late)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.01), interval)


def until(what: Callable[[], object], seconds: float = LIMIT) -> bool:
    """Waits for something to become true; whether it did."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
