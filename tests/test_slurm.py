"""Sweeps on a real Slurm, one machine without accounting: to the end, with a job killed or queued again, or the sweep killed.

``make test-slurm`` runs these minutes of tests, which are skipped otherwise, and where Slurm is not there. On Debian it takes
``apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins``; `support.slurm` says how to
do with packages that are merely unpacked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metaser.experiment.sweep.cell import Cell
from metaser.experiment.sweep.slurm import JOBS
from metaser.runtime.files import read_sealed
from support import REPOSITORY
from support.slurm import cluster, tied
from support.sweeps import PLAIN, SMALL, attempts, cells_of, sweep, sweep_file

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif("METASER_SLURM" not in os.environ, reason="minutes on a real Slurm: make test-slurm"),
]

#: Seconds that anything may take: a cell needs some ten, and more where the machine is busy.
LIMIT_S = 900.0

#: Cells that are held in the middle of their training until a file ``go`` lies beside the experiment, however fast the machine.
HELD: dict[str, Any] = {"set": [*SMALL, f"training.iterations={2 * (MIDDLE := 3)}"], "checkpoint_every": 1}
HOLD = f"""
import time
from pathlib import Path

from metaser.training.checkpoint import Checkpoints

keep = Checkpoints.keep

def keep_and_wait(self, learner, optimiser, position):
    keep(self, learner, optimiser, position)
    end = time.monotonic() + {LIMIT_S}
    while position.iteration == {MIDDLE} and not Path(__file__).with_name("go").exists() and time.monotonic() < end:
        time.sleep(0.1)

Checkpoints.keep = keep_and_wait
"""

#: What a run of the same numbers repeats to the byte.
REPEATED = ("metrics.csv", "tasks.csv", "summary.csv", "confusion.csv")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a Slurm that runs as long as this file's tests, on the synthetic corpus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("METASER_DATA", raising=False)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        with cluster(tmp_path_factory.mktemp("slurm")) as variables:
            yield variables


class Sweeping:
    """``metaser sweep`` on Slurm, in a process of its own that is gone when the block ends."""

    def __init__(self, slurm: dict[str, str], folder: Path, **changes: Any) -> None:
        changes = {"executor": "slurm", "slurm": {"time_min": 60, "mem_gb": 1}, **changes}
        self.slurm, self.folder, self.cells = slurm, folder, cells_of(folder, **changes)
        file = sweep_file(folder, **changes)
        (folder / "plain" / "run.py").write_text(PLAIN + HOLD)
        self.errors_path, self.output_path = folder / "errors.txt", folder / "output.txt"
        with open(self.errors_path, "w") as errors, open(self.output_path, "w") as output:
            self.process = subprocess.Popen(
                tied([sys.executable, "-m", "metaser", "sweep", str(file), "--results", str(folder / "results")]),
                stdout=output, stderr=errors, env=slurm, cwd=REPOSITORY, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Sweeping:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(LIMIT_S)

    def end(self) -> int:
        """Its exit code, once it ended."""
        return self.process.wait(LIMIT_S)

    @property
    def errors(self) -> str:
        return self.errors_path.read_text()

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def jobs(self) -> dict[str, str]:
        """Cell's key → job."""
        return read_sealed(self.folder / "results" / "sweeps" / "tiny" / JOBS) or {}

    def until_held(self) -> None:
        """Waits until every cell is in the middle of its training."""
        held = f"{MIDDLE:09}.safetensors"
        self.until(lambda: all(any(cell.folder.rglob(held)) for cell in self.cells))

    def until(self, what: Callable[[], bool]) -> None:
        """Waits for something, while the sweep goes on."""
        end = time.monotonic() + LIMIT_S
        while not what():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < end, "not in time"
            time.sleep(0.5)

    def go(self) -> None:
        """Lets the cells go on."""
        (self.folder / "plain" / "go").touch()

    def call(self, *command: str) -> str:
        """One of Slurm's commands."""
        return subprocess.run(
            command, env=self.slurm, timeout=LIMIT_S, check=True, capture_output=True, text=True
        ).stdout

    def states(self) -> dict[str, str]:
        """Job → state, of all jobs of this sweep that Slurm remembers."""
        said = self.call("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return {job: state for job, state in map(str.split, said) if job.split("_")[0] in self.arrays}

    @property
    def arrays(self) -> set[str]:
        return {job.split("_")[0] for job in self.jobs.values()}


def contents(cells: list[Cell]) -> dict[tuple[str, str], bytes]:
    return {(cell.key, name): (cell.results / name).read_bytes() for cell in cells for name in REPEATED}


def test_a_sweep_comes_to_its_end(slurm: dict[str, str], tmp_path: Path) -> None:
    with Sweeping(slurm, tmp_path, seeds=[0, 1, 2]) as sweeping:
        assert sweeping.end() == 0, sweeping.errors
    assert "3 of 3 cells are done" in sweeping.output
    assert "sacct" not in sweeping.errors
    assert len(set(sweeping.jobs.values())) == 3
    assert all(cell.done for cell in sweeping.cells)


def test_a_job_that_was_killed_is_reported_and_the_same_command_does_only_that(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    with Sweeping(slurm, tmp_path, **HELD) as sweeping:
        sweeping.until_held()
        other, killed = sweeping.cells
        job = sweeping.jobs[killed.key]
        sweeping.call("scancel", job)
        sweeping.until(lambda: sweeping.states()[job] == "CANCELLED")
        sweeping.go()
        assert sweeping.end() == 1, sweeping.errors
    assert "1 of 2 cells are done" in sweeping.output
    (row,) = [line for line in sweeping.errors.splitlines() if f"Slurm job {job} has ended (CANCELLED)" in line]
    assert "seed 1" in row
    assert Path(row.split("|")[-2].strip()) == killed.folder / "log.txt"
    assert (other.done, killed.done) == (True, False)
    before = contents([other])
    with Sweeping(slurm, tmp_path, **HELD) as again:
        assert again.end() == 0, again.errors
    assert "2 cells, 1 of them done before" in again.errors
    assert "2 of 2 cells are done" in again.output
    assert contents([other]) == before
    assert (attempts(other.folder / "log.txt"), attempts(killed.folder / "log.txt")) == (1, 2)


def test_a_job_that_is_queued_again_goes_on_to_the_same_result(slurm: dict[str, str], tmp_path: Path) -> None:
    with Sweeping(slurm, tmp_path, **HELD) as sweeping:
        sweeping.until_held()
        requeued = sweeping.cells[1]
        job = sweeping.jobs[requeued.key]
        sweeping.call("scontrol", "requeue", job)
        sweeping.until(lambda: sweeping.states()[job] == "PENDING")
        sweeping.go()
        assert sweeping.end() == 0, sweeping.errors
    assert "2 of 2 cells are done" in sweeping.output
    assert attempts(requeued.folder / "log.txt") == 2
    (tmp_path / "whole").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("METASER_DATA", raising=False)
        assert sweep(tmp_path / "whole", **HELD).returncode == 0
        whole = cells_of(tmp_path / "whole", **HELD)
    assert contents(whole) == contents(sweeping.cells)


def test_a_sweep_that_was_killed_finds_its_jobs_again(slurm: dict[str, str], tmp_path: Path) -> None:
    with Sweeping(slurm, tmp_path, **HELD) as sweeping:
        sweeping.until_held()
        sweeping.process.send_signal(signal.SIGKILL)
        assert sweeping.end() == -signal.SIGKILL
        jobs = sweeping.jobs
    with Sweeping(slurm, tmp_path, **HELD) as again:
        again.until(lambda: "2 cells have jobs of an earlier sweep in Slurm's queue" in again.errors)
        again.go()
        assert again.end() == 0, again.errors
    assert "2 of 2 cells are done" in again.output
    assert again.jobs == jobs
    assert set(again.states()) == set(jobs.values()), "no job was submitted besides"
    assert [attempts(cell.folder / "log.txt") for cell in again.cells] == [1, 1]


def test_a_sweep_that_was_stopped_cancels_its_jobs_and_goes_on_when_run_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    with Sweeping(slurm, tmp_path, **HELD) as sweeping:
        sweeping.until_held()
        sweeping.process.terminate()  # SIGINT is ignored in the background of a script
        assert sweeping.end() == 2, sweeping.errors
        jobs = sweeping.jobs
    assert set(sweeping.states().values()) <= {"CANCELLED", "COMPLETING"}
    with Sweeping(slurm, tmp_path, **HELD) as again:
        again.until(lambda: again.jobs != jobs)
        again.go()
        assert again.end() == 0, again.errors
    assert "2 of 2 cells are done" in again.output
    assert set(again.jobs.values()).isdisjoint(jobs.values())
    assert [attempts(cell.folder / "log.txt") for cell in again.cells] == [2, 2]
