"""Processes that a command starts: they end when it ends, and Ctrl-C is its own affair."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess

#: Seconds that a process which is told to stop may take before it is killed.
GRACE_S = 10.0


def follow_parent() -> None:
    """Ends this process when the one that started it is no more, however that came to be."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def stop(processes: Sequence[ForkServerProcess]) -> None:
    """Ends processes: politely first, so that what they wrote stays whole; for good after `GRACE_S`."""
    with shielded():
        for process in processes:
            process.terminate()
        until = time.monotonic() + GRACE_S
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Puts Ctrl-C off to the end of the block; a process that is started in it never hears of it.

    Off the main thread, where Python delivers no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the process inherits this
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if heard:
        raise KeyboardInterrupt


def ending(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"its process was killed (signal {signal.Signals(-code).name})"
    return f"its process ended with exit code {code}" if code else "its run left no whole results folder"
