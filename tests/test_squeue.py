"""Slurm jobs by what ``squeue`` says of them: a fake one, and a clock that the tests turn, so that nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from metaser.experiment.sweep import slurm
from metaser.experiment.sweep.cell import ERROR, FILES, Cell
from metaser.experiment.sweep.settings import Slurm
from metaser.experiment.sweep.slurm import JOBS, Queue, claimed
from metaser.runtime.errors import UserError
from metaser.runtime.files import read_sealed, write_sealed

#: Fakes of Slurm's commands, in whose folder lie ``calls`` (what was called), ``next`` (the next job) and ``queue``.
COMMANDS = {
    "sbatch": 'n=$(cat next) || { echo "sbatch: error: invalid partition" >&2; exit 1; }\n'
              'echo $((n + 1)) >next; echo "Submitted batch job $n"',
    "squeue": 'cat queue 2>/dev/null || { echo "squeue: error: Unable to contact slurm controller" >&2; exit 1; }',
    "scancel": "true", "srun": "true", "sacct": "true",
}  # fmt: skip


class Clock:
    """Seconds that pass when somebody sleeps; things may be set to happen at one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 10_000, "it waits for ever"
        due = [event for event in self.events if event[0] <= self.now]
        self.events = [event for event in self.events if event[0] > self.now]
        for _, happens in due:
            happens()


class Fake:
    """A sweep of three cells on the fake Slurm."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.results, self.clock = folder, folder / "results", clock
        self.results.mkdir()
        (folder / "next").write_text("1")
        self.put("")
        self.cells = [Cell(folder, "", "paper", "fmaml", "de", seed, (), {"seed": seed}, self.results / "cells")
                      for seed in range(3)]  # fmt: skip
        self.ended: dict[str, str] = {}
        self.at: dict[str, float] = {}

    def put(self, *lines: str) -> None:
        """What ``squeue`` says from now on, an "id state" each."""
        (self.folder / "queue").write_text("".join(f"{line} metaser-tiny\n" for line in lines))

    def calls(self, command: str) -> list[str]:
        file = self.folder / "calls"
        said = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(command).strip() for line in said if line.split()[0] == command]

    def finish(self, job: str) -> None:
        """What a job does that comes to its end: the cell's results, then submitit's."""
        known = read_sealed(self.results / JOBS)
        (cell,) = [cell for cell in self.cells if known.get(cell.key) == job]
        cell.results.mkdir(parents=True)
        for name in FILES:
            (cell.results / name).touch()
        (self.results / "submitit" / f"{job}_0_result.pkl").touch()

    def run(self, *cells: Cell) -> None:
        def ended(cell: Cell, how: str) -> None:
            assert str(cell) not in self.ended, "told twice"
            self.ended[str(cell)], self.at[str(cell)] = how, self.clock.now

        Queue(self.results, Slurm(), "tiny").run(cells or self.cells, ended)

    def run_one(self) -> str:
        """Runs the first cell alone, as job 1; how it ended."""
        self.run(self.cells[0])
        return self.ended[str(self.cells[0])]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    for name, script in COMMANDS.items():
        (tmp_path / name).write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\necho "{name} $*" >>calls\n{script}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    clock = Clock()
    monkeypatch.setattr(slurm, "time", clock)
    return Fake(tmp_path, clock)


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "COMPLETED"])
def test_a_job_that_slurm_has_ended_is_reported_with_its_last_words(fake: Fake, state: str) -> None:
    fake.put("1 RUNNING")
    fake.clock.events = [(100, lambda: fake.put(f"1 {state}"))]
    log = fake.results / "submitit" / "1_0_log.err"
    fake.clock.events += [(50, lambda: log.write_text("starting\nslurmstepd: error: oom-kill\n\n"))]
    how = fake.run_one()
    assert how == f"its Slurm job 1 has ended ({state}); slurmstepd: error: oom-kill ({log})"
    assert 100 < fake.clock.now <= 100 + slurm.GONE_S + 2 * slurm.ASK_S
    assert not fake.calls("sacct"), "there may be no accounting"


def test_a_job_that_squeue_does_not_list_has_ended(fake: Fake) -> None:
    fake.put("1 RUNNING")
    fake.clock.events = [(100, lambda: fake.put("2 RUNNING"))]
    assert fake.run_one() == "its Slurm job 1 has ended (no longer in the queue); it printed nothing"


def test_a_job_that_is_queued_again_is_waited_for(fake: Fake) -> None:
    fake.put("1 RUNNING")
    states = (
        "NODE_FAIL",
        "PENDING",
        "RUNNING",
        "CANCELLED",
        "COMPLETING",
        "REQUEUE_HOLD",
        "A_STATE_TO_COME",
        "RUNNING",
    )
    fake.clock.events = [(100 + slurm.GONE_S * n, lambda state=state: fake.put(f"1 {state}"))  # type: ignore[misc]
                         for n, state in enumerate(states)]  # fmt: skip
    fake.clock.events += [(500, lambda: fake.finish("1"))]
    fake.run_one()
    assert fake.cells[0].done
    assert fake.clock.now == pytest.approx(500, abs=2 * slurm.LOOK_S)


def test_while_squeue_does_not_answer_nobody_is_dead(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.put("1 RUNNING")
    fake.clock.events = [
        (99, lambda: fake.put("1 NODE_FAIL")),  # asked at 100
        (105, lambda: (fake.folder / "queue").unlink()),
        (3000, lambda: fake.put("1 RUNNING")),
        (4000, lambda: fake.finish("1")),
    ]
    fake.run_one()
    assert fake.cells[0].done
    said = [line for line in capsys.readouterr().err.splitlines() if "Unable to contact slurm controller" in line]
    assert len(said) == 1, "once, and not every ten seconds"


def test_squeue_is_asked_once_for_all_jobs_and_not_too_often(fake: Fake) -> None:
    fake.put("1_0 RUNNING", "1_1 RUNNING", "1_2 PENDING")
    for n in range(3):
        fake.clock.events += [(1000 + n, lambda n=n: fake.finish(f"1_{n}"))]  # type: ignore[misc]
    fake.run()
    assert all(cell.done for cell in fake.cells)
    assert len(fake.calls("squeue")) <= 1002 / slurm.ASK_S + 2
    assert len(fake.calls("sbatch")) == 1, "an array"


def test_a_sweep_that_is_run_again_finds_its_jobs(fake: Fake) -> None:
    fake.put("1_0 RUNNING", "1_1 PENDING", "1_2 CANCELLED")
    first, second, third = fake.cells
    write_sealed(fake.results / JOBS, {cell.key: f"1_{n}" for n, cell in enumerate(fake.cells)})
    (fake.folder / "next").write_text("2")
    fake.clock.events = [
        (15, lambda: fake.put("1_0 RUNNING", "1_1 RUNNING", "2 RUNNING")),
        (20, lambda: fake.finish("1_0")),
        (30, lambda: fake.finish("1_1")),
        (40, lambda: fake.finish("2")),
    ]
    (fake.results / "submitit").mkdir()
    fake.run()
    assert [cell.done for cell in fake.cells] == [True, True, True]
    assert len(fake.calls("sbatch")) == 1
    assert read_sealed(fake.results / JOBS) == {first.key: "1_0", second.key: "1_1", third.key: "2"}


def test_a_job_of_that_number_but_another_name_is_not_the_sweeps(fake: Fake) -> None:
    """Slurm may begin at 1 again."""
    (fake.folder / "queue").write_text("1 RUNNING metaser-tiny2\n")
    write_sealed(fake.results / JOBS, {fake.cells[0].key: "1"})
    (fake.folder / "next").write_text("7")
    fake.clock.events = [(5, lambda: fake.finish("7"))]
    fake.run_one()
    assert len(fake.calls("sbatch")) == 1


def test_a_job_that_is_just_being_ended_is_waited_for_and_then_replaced(fake: Fake) -> None:
    fake.put("1 COMPLETING")
    write_sealed(fake.results / JOBS, {fake.cells[0].key: "1"})
    (fake.folder / "next").write_text("2")
    fake.clock.events = [(30, lambda: fake.put("1 CANCELLED")), (31, lambda: fake.put("1 CANCELLED", "2 RUNNING")),
                         (60, lambda: fake.finish("2"))]  # fmt: skip
    fake.run_one()
    assert fake.clock.now >= 60
    assert len(fake.calls("sbatch")) == 1


def test_where_it_is_not_known_what_runs_nothing_is_submitted(fake: Fake) -> None:
    (fake.folder / "queue").unlink()
    with pytest.raises(UserError, match="squeue does not answer; start the sweep again"):
        fake.run()
    fake.put()
    (fake.results / JOBS).write_text('{"digest": "", "content": {}}')
    with pytest.raises(UserError, match=r"jobs\.json: is not what a sweep wrote; remove it when squeue"):
        fake.run()
    assert not fake.calls("sbatch")


def test_cells_that_slurm_does_not_take_are_one_line(fake: Fake) -> None:
    (fake.folder / "next").unlink()
    with pytest.raises(UserError, match=r"cannot be submitted.*invalid partition"):
        fake.run()


def test_what_an_earlier_try_said_is_not_said_of_this_one(fake: Fake) -> None:
    cell = fake.cells[0]
    cell.folder.mkdir(parents=True)
    (cell.folder / ERROR).write_text("the loss is not finite")
    fake.put("1 CANCELLED")
    fake.run_one()
    assert cell.error() == ""


def test_an_interrupted_sweep_cancels_its_jobs(fake: Fake) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    fake.put("1_0 RUNNING", "1_1 RUNNING", "1_2 PENDING")
    fake.clock.events = [(20, lambda: fake.finish("1_1")), (30, interrupt)]
    with pytest.raises(KeyboardInterrupt):
        fake.run()
    assert fake.calls("scancel") == ["1_0 1_2"]


def test_a_job_does_nothing_before_it_is_named(fake: Fake) -> None:
    """A sweep that was killed while it submitted leaves jobs that nobody knows, and the next one submits others."""
    cell = fake.cells[0]
    assert not claimed(cell, "1")
    assert fake.clock.now == pytest.approx(slurm.CLAIM_S, abs=slurm.LOOK_S)
    write_sealed(fake.results / JOBS, {cell.key: "1"})
    fake.clock.events = [(fake.clock.now + 5, lambda: write_sealed(fake.results / JOBS, {cell.key: "2"}))]
    assert claimed(cell, "2"), "it waits while an earlier job is named"
    assert not claimed(cell, "1")
