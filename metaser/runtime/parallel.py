"""Tasks over threads: the same results in the same order, whatever the number of threads.

PyTorch releases Python's lock inside its operators, so two threads with one operator thread each keep two cores busier
than one thread whose operators are split. One operator thread also fixes the order of every sum, hence the bits.

Numbers below 1e-38 count as 0 meanwhile: features as they are saturate an LSTM's gates, whose gradients are such numbers, and
some processors take several times as long for these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from metaser.runtime import allocator
from metaser.runtime.ranks import Ranks

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """A pool of threads; use it as a context manager.

    Args:
        count: Threads; when not given one per available core, shared with the other ranks on this machine.
        ranks: The processes that share the work.
    """

    def __init__(self, count: int | None = None, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()
        self.count = count or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        allocator.tune()
        torch.set_num_threads(1)
        self._limits = threadpool_limits(1, user_api="blas")  # NumPy's, which would share the cores with ours
        for kind in (np.float32, np.float64):
            np.finfo(kind)  # NumPy looks once, and would warn if it then found no such small numbers
        torch.set_flush_denormal(True)  # of this thread
        start = partial(torch.set_flush_denormal, True)
        self._pool = ThreadPoolExecutor(self.count, initializer=start) if self.count > 1 else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """``[function(item) for item in items]``, computed by several threads at once."""
        return list(self._pool.map(function, items)) if self._pool else [function(item) for item in items]

    def everywhere(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The same, each rank doing its part and all getting everything."""
        return self.ranks.together(self.map(function, self.ranks.own(items)))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        torch.set_flush_denormal(False)
        self._limits.restore_original_limits()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for PyTorch's and NumPy's operators while the block runs, as `Workers` has it.

    A single small task gains nothing from more of them: they spend seconds of CPU waiting for one another.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
