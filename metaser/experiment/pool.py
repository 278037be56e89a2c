"""Jobs side by side: so many processes, each doing one job after another; what a run's models and a sweep's cells share.

A process is forked from a server that has imported everything and done nothing (multiprocessing's forkserver), so it starts
in no time and shares no threads with anybody. All end when the command ends, and Ctrl-C is the command's own affair.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

from metaser.runtime.errors import StoppedError

Job = TypeVar("Job")

#: Does a job, telling how many steps of it are done; why it failed, in one line, or nothing.
Work = Callable[[Job, Callable[[int], None]], str]

#: What a process says: so many steps are done, the job is over (why it failed, or nothing), all have to stop (why).
TICK, ENDED, STOPPED = "tick", "ended", "stopped"

#: The least time between two steps that a process tells of, in seconds.
TICK_S = 0.1


class Child(Generic[Job]):
    """A process, and what it has to do.

    Args:
        start: Called in the process; gives what does the jobs.
    """

    def __init__(self, start: Callable[[], Work[Job]]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["metaser.experiment"])
        self.start = start
        with shielded(), without_main():  # it is started and known, or neither; only the parent hears Ctrl-C
            self.connection, theirs = context.Pipe()
            arguments = (theirs, start, dict(os.environ), os.getcwd())
            self.process: ForkServerProcess = context.Process(target=child, args=arguments, daemon=True)
            self.process.start()
            theirs.close()
        self.left: deque[Job] = deque()
        self.now: Job | None = None

    def next(self, waiting: deque[deque[Job]]) -> None:
        """Gives it the next job of its group, or the first of the next group, if there is any."""
        if not self.left and waiting:
            self.left = waiting.popleft()
        self.now = self.left.popleft() if self.left else None
        if self.now is not None:
            with contextlib.suppress(OSError):  # it has died, which is noticed in a moment
                self.connection.send(self.now)

    def heard(self) -> tuple[list[tuple[str, Any]], bool]:
        """What it has said since the last time, and whether it is still there."""
        said: list[tuple[str, Any]] = []
        try:
            while self.connection.poll():
                said.append(self.connection.recv())
        except (EOFError, OSError):
            return said, False
        return said, True

    def died(self) -> str:
        """How it ended, once it is no more."""
        self.process.join()
        code = self.process.exitcode or 0
        memory = "; was there enough memory? Fewer processes take less" if code == -signal.SIGKILL else ""
        return ending(code) + memory


def side_by_side(
    starts: Sequence[Callable[[], Work[Job]]], groups: Sequence[Sequence[Job]],
    ticked: Callable[[Job, int], None], ended: Callable[[Job, str], None],
) -> None:  # fmt: skip
    """Does jobs in processes of their own; each group, one after another, in the same one.

    Args:
        starts: For each process that may run at the same time, what it calls first; gives what does the jobs.
        groups: Jobs that share work.
        ticked: Told of a job and how many steps of it are done.
        ended: Told of every job that ended, and why it failed; nothing if it did not. One whose process died has failed; the
            others go on.

    Raises:
        StoppedError: if one of them says that none can go on. No process is left then.
    """
    waiting, free = deque(deque(group) for group in groups), list(starts)
    working: list[Child[Job]] = []
    started: list[ForkServerProcess] = []
    try:
        while waiting or working:
            while waiting and free:
                one = Child(free.pop(0))
                started.append(one.process)
                working.append(one)
                one.next(waiting)
            wait([one.connection for one in working])
            for one in list(working):
                said, there = one.heard()
                for kind, what in said:
                    assert one.now is not None, "it says nothing unasked"
                    if kind == TICK:
                        ticked(one.now, what)
                    elif kind == STOPPED:
                        raise StoppedError(what)
                    else:
                        ended(one.now, what)
                        one.next(waiting)
                if not there and one.now is not None:
                    ended(one.now, one.died())
                    if one.left:
                        waiting.appendleft(one.left)
                if not there or one.now is None:
                    one.connection.close()  # if it is still there, it ends now
                    working.remove(one)
                    free.append(one.start)
    finally:
        stop(started)


def child(connection: Connection, start: Callable[[], Work[Any]], variables: Mapping[str, str], folder: str) -> None:
    """A process of `side_by_side`; it ends with its parent, at once, since whatever it writes is whole or absent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    work, said = start(), 0.0

    def tick(steps: int) -> None:
        nonlocal said
        if time.monotonic() - said >= TICK_S:
            said = time.monotonic()
            connection.send((TICK, steps))

    with contextlib.suppress(EOFError):  # nothing is left to do
        while True:
            job = connection.recv()
            try:
                connection.send((ENDED, work(job, tick)))
            except StoppedError as error:
                connection.send((STOPPED, str(error)))


def end_with_parent() -> None:
    """Waits until the process that started this one is no more, and ends it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def stop(processes: Sequence[ForkServerProcess]) -> None:
    """Ends processes at once."""
    with shielded():
        for process in processes:
            process.kill()
        for process in processes:
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


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keeps a new process from running the script that started it a second time: all that it needs is in this package."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def ending(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"its process was killed (signal {signal.Signals(-code).name})"
    return f"its process ended with exit code {code}"
