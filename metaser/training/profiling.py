"""Where a run's time goes: a few meta-iterations of its first model under PyTorch's profiler, all threads included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from metaser.runtime.files import write_text
from metaser.runtime.parallel import available_cores

#: The first iterations pay for allocations and compilation; they are left out.
SKIPPED, SEEN, ROWS = 3, 5, 30


class Profile:
    """Records `SEEN` iterations after the first `SKIPPED`; use it as a context manager, call it after every iteration.

    Args:
        path: The text file to write: operators by the time they take themselves, summed over threads.
        cuda: Record the GPU's kernels too.
    """

    def __init__(self, path: Path, cuda: bool = False) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        self.path, self.cuda, self.done = path, cuda, 0
        self._profile = profile(
            activities=activities, experimental_config=_ExperimentalConfig(profile_all_threads=True)
        )
        self._started, self._seconds = 0.0, 0.0

    def __call__(self) -> None:
        """One more iteration is done."""
        self.done += 1
        if self.done == SKIPPED:
            self._profile.start()
            self._started = time.perf_counter()
        elif self.done == SKIPPED + SEEN:
            self._stop()

    def _stop(self) -> None:
        self._seconds = time.perf_counter() - self._started
        self._profile.stop()
        seen, averages = self.done - SKIPPED, self._profile.key_averages()
        busy = sum(event.self_cpu_time_total for event in averages) / 1e6
        table = averages.table(sort_by=f"self_{'cuda' if self.cuda else 'cpu'}_time_total", row_limit=ROWS)
        write_text(
            self.path,
            f"{seen} meta-iterations of the first model, after {SKIPPED} that are not counted.\n"
            f"{1e3 * self._seconds / seen:.1f} ms per meta-iteration with the profiler on; operators busy for "
            f"{100 * busy / self._seconds / available_cores():.0f} % of {available_cores()} cores.\n\n{table}",
        )


@contextmanager
def profiled(path: Path | None, cuda: bool = False) -> Iterator[Profile | None]:
    """A `Profile` that writes to ``path``, or none; a run of too few iterations is written as far as it went."""
    if path is None:
        yield None
        return
    record = Profile(path, cuda)
    yield record
    if SKIPPED < record.done < SKIPPED + SEEN:
        record._stop()
