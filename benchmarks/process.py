"""The parent's side of a contender's process: start it, ask it, and leave none behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metaser.runtime.errors import UserError

#: Settings of threads and allocators that would no longer make the contenders what they are said to be.
REMOVED = ("OMP_", "GOMP_", "MKL_NUM_THREADS", "MKL_DYNAMIC", "OPENBLAS_NUM_THREADS", "MALLOC_", "GLIBC_TUNABLES")


def environment() -> dict[str, str]:
    """This process's environment without what tunes threads or memory, and with this package on Python's path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED)}
    here = str(Path(__file__).resolve().parent.parent)
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH", "")]))}


class Process:
    """A contender (or ``peak``) in a process of its own, alive from one request to the next; use it as a context manager.

    It ends with the block, and by itself when this process is no more, since its standard input then ends.

    Args:
        name: A key of `benchmarks.worker.MODULES`.
        doing: What it is started for, for error messages.
    """

    def __init__(self, name: str, doing: str) -> None:
        self.name, self.doing = name, doing
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        command = [sys.executable, "-m", "benchmarks.worker", name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment()
        )

    def send(self, **request: Any) -> None:
        """Makes a request and does not wait for the answer.

        Raises:
            UserError: if the process has ended.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError:
            raise self._ended() from None

    def receive(self) -> dict[str, Any]:
        """The answer to the last request.

        Raises:
            UserError: if the process ends instead of answering.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def ask(self, **request: Any) -> dict[str, Any]:
        """A request and its answer.

        Raises:
            UserError: if the process has ended or ends.
        """
        self.send(**request)
        return self.receive()

    def _ended(self) -> UserError:
        """Why there is no answer, in one line."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        last = next((" ".join(line.split()) for line in reversed(said) if line.strip()), "it said nothing")[:200]
        how = f"exit code {code}" if code >= 0 else f"{signal.Signals(-code).name}, perhaps for want of memory"
        return UserError(f"bench: the process of {self.name} ended during {self.doing} ({how}): {last}")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # a request that it no longer read
                assert stream is not None
                stream.close()


class Pool:
    """The contenders' processes; use it as a context manager.

    Args:
        keep: Keep them from one cell to the next, which saves the seconds of their start; else every cell gets new ones,
            so that its peak memory is its own.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self._stack = contextlib.ExitStack()
        self._kept: dict[str, Process] = {}

    @contextlib.contextmanager
    def running(self, names: Sequence[str], doing: str) -> Iterator[dict[str, Process]]:
        """Processes by name; ``doing`` is what for."""
        if not self.keep:
            with contextlib.ExitStack() as stack:
                yield {name: stack.enter_context(Process(name, doing)) for name in names}
            return
        for name in names:
            if name not in self._kept:
                self._kept[name] = self._stack.enter_context(Process(name, doing))
            self._kept[name].doing = doing
        yield {name: self._kept[name] for name in names}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
