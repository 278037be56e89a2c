"""A contender's process: ``python -m benchmarks.worker NAME``. It ends when its standard input does.

Each line that it reads is a request in JSON, answered by one line: ``{"prepare": cell}``, ``{"iterations": n}`` (answered
by the seconds that they took), ``{"memory": true}`` (the process's peak so far), ``{"peak": true}`` (GFLOP/s).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks import ours
from benchmarks.workloads import Case

MODULES = {"metaser": "benchmarks.ours", "learn2learn": "benchmarks.stock", "reference": "benchmarks.reference",
           "peak": "benchmarks.peak"}  # fmt: skip

CELLS = TypeAdapter(Case)

PR_SET_PDEATHSIG = 1


def serve(name: str) -> None:
    """Answers requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get among the replies
    if name == "metaser":
        ours.tune()
    module = importlib.import_module(MODULES[name])
    iteration: Callable[[], None] | None = None
    peak: Callable[[], dict[str, float]] | None = None
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        reply: dict[str, Any] = {}
        if "prepare" in request:
            iteration = module.prepare(CELLS.validate_python(request["prepare"]))
            reply.update(threads=threads(), memory_mib=peak_memory())
        elif "iterations" in request:
            assert iteration is not None
            started = time.perf_counter()
            for _ in range(request["iterations"]):
                iteration()
            reply["seconds"] = time.perf_counter() - started
        elif "peak" in request:
            peak = peak or module.Peak()
            reply.update(peak())
        else:
            reply["memory_mib"] = peak_memory()
        print(json.dumps(reply), file=replies)


def threads() -> int:
    """PyTorch's threads within an operation."""
    import torch

    return torch.get_num_threads()


def peak_memory() -> float | None:
    """The most memory that this process held at once (VmHWM), in MiB; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    with contextlib.suppress(AttributeError, OSError):  # on Linux, die with the parent even in the middle of a request
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    serve(sys.argv[1])
