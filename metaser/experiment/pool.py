"""A run's models side by side: as many processes as there is room for, each doing one model after another.

A process is forked from a server that has imported everything and done nothing (multiprocessing's forkserver), so it starts
in no time and shares no threads with anybody. Models are the same to the bit in whatever process they are trained.
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
from typing import Any

from metaser.experiment.runner import Job, Runner
from metaser.runtime.errors import StoppedError
from metaser.runtime.parallel import Workers
from metaser.runtime.processes import ending, shielded, stop

#: What a child says: an iteration is done, the model is done (why it failed, or nothing), the run has to stop (why).
TICK, ENDED, STOPPED = "tick", "ended", "stopped"

#: The least time between two iterations that a child tells of, in seconds.
TICK_S = 0.1

#: Called with a job and the iteration that is done.
Ticked = Callable[[Job, int], None]

#: Called with a job that ended, and why it failed; nothing if it did not.
Ended = Callable[[Job, str], None]


class Child:
    """A process, and what it has to do.

    Args:
        packed: What `metaser.experiment.runner.Runner.pack` gave.
        threads: For each model.
    """

    def __init__(self, packed: bytes, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with shielded(), without_main():  # it is started and known, or neither; only the parent hears Ctrl-C
            self.connection, theirs = context.Pipe()
            arguments = (theirs, packed, threads, dict(os.environ), os.getcwd())
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
        if self.now:
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
        code = self.process.exitcode
        memory = "; was there enough memory? (--processes 1 takes less)" if code == -signal.SIGKILL else ""
        return (ending(code) if code else "its process ended") + memory


def side_by_side(
    packed: bytes, groups: Sequence[Sequence[Job]], processes: int, threads: int, ticked: Ticked, ended: Ended
) -> None:  # fmt: skip
    """Does jobs in processes of their own; each group, one after another, in the same one.

    Args:
        packed: What `metaser.experiment.runner.Runner.pack` gave for them.
        groups: Runner that share work.
        processes: How many at once.
        threads: For each.
        ticked: Told of every iteration.
        ended: Told of every job that ended. One whose process died has failed; the others go on.

    Raises:
        StoppedError: if one of them says that the run cannot go on. No process is left then.
    """
    waiting = deque(deque(group) for group in groups)
    working: list[Child] = []
    started: list[ForkServerProcess] = []
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                one = Child(packed, threads)
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
                if not there and one.now:
                    ended(one.now, one.died())
                    if one.left:
                        waiting.appendleft(one.left)
                if not there or not one.now:
                    one.connection.close()  # if it is still there, it ends now
                    working.remove(one)
    finally:
        stop(started)


def child(connection: Connection, packed: bytes, threads: int, variables: Mapping[str, str], folder: str) -> None:
    """A process of `side_by_side`; it ends with its parent, at once, since whatever it writes is whole or absent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    jobs, said = Runner.unpack(packed), 0.0

    def tick(iteration: int) -> None:
        nonlocal said
        if time.monotonic() - said >= TICK_S:
            said = time.monotonic()
            connection.send((TICK, iteration))

    with Workers(threads) as workers, contextlib.suppress(EOFError):  # nothing is left to do
        while True:
            job = connection.recv()
            try:
                connection.send((ENDED, jobs.attempt(job, workers, tick)))
            except StoppedError as error:
                connection.send((STOPPED, str(error)))


def end_with_parent() -> None:
    """Waits until the process that started this one is no more, and ends it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keeps a new process from running the script that started it a second time: all that it needs is in this package."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
