"""The pool of processes by itself: so many at a time, and one that dies takes nothing with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from metaser.experiment import pool
from metaser.runtime.errors import StoppedError


def start(folder: Path, number: int) -> pool.Work[str]:
    """What does the jobs of the process of that number: each is named by what it does, and leaves a file of when it was done."""

    def work(job: str, tick: Callable[[int], None]) -> str:
        began = time.monotonic()
        tick(1)
        if job.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.startswith("stop"):
            raise StoppedError("the disk is full")
        time.sleep(0.2)
        (folder / job).write_text(f"{number} {os.getpid()} {began} {time.monotonic()}")
        return "it failed" if job.startswith("fail") else ""

    return work


def done(folder: Path, processes: int, *groups: list[str]) -> dict[str, str]:
    """Does jobs; how each ended."""
    ended: dict[str, str] = {}

    def end(job: str, why: str) -> None:
        assert job not in ended, "told twice"
        ended[job] = why

    starts = [partial(start, folder, number) for number in range(processes)]
    pool.side_by_side(starts, groups, lambda job, steps: None, end)
    return ended


def test_a_job_that_fails_and_a_process_that_dies_stop_no_other(tmp_path: Path) -> None:
    ended = done(tmp_path, 2, ["one", "die", "two"], ["fail"], ["three"])
    assert {job: why for job, why in ended.items() if why} == {
        "die": "its process was killed (signal SIGKILL); was there enough memory? Fewer processes take less",
        "fail": "it failed",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "three", "fail"}
    assert ended.keys() == {"one", "die", "two", "fail", "three"}


def test_no_more_jobs_run_at_a_time_than_there_are_processes(tmp_path: Path) -> None:
    done(tmp_path, 2, *([str(job)] for job in range(10)))
    rows = [path.read_text().split() for path in tmp_path.iterdir()]
    assert {row[0] for row in rows} == {"0", "1"}, "each is of a number of its own, as of a share of the cores"
    assert len({row[1] for row in rows}) == 2, "one process does one job after another"
    spans = [(float(row[2]), float(row[3])) for row in rows]
    assert max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans) == 2


def test_where_none_can_go_on_no_process_is_left(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StoppedError, match="the disk is full"):
        done(tmp_path, 2, ["stop"], *([str(job)] for job in range(200)))
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()
