"""Cells as Slurm jobs: submitit submits them, ``squeue`` says how they stand, and the next sweep finds them again.

``squeue`` is there wherever Slurm is. ``sacct``, which submitit asks, needs accounting; without it submitit takes a job
that was killed for an unfinished one, and waits for ever.

``jobs.json`` in the sweep's folder says which job each cell belongs to. A job that it does not name does nothing, so no
cell is run by two jobs, even if the sweep is killed between submitting and writing that file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaser.experiment.pool import shielded
from metaser.experiment.sweep.cell import ERROR, UNFINISHED, Cell, work
from metaser.experiment.sweep.executors import Ended
from metaser.experiment.sweep.settings import Slurm
from metaser.runtime.errors import UserError, first_line
from metaser.runtime.files import read_sealed, write_sealed
from metaser.runtime.progress import say

#: Cell's key → the id of its job.
JOBS = "jobs.json"

#: What a sweep calls.
COMMANDS = ("sbatch", "srun", "squeue", "scancel")

#: States that a job does not leave, unless it is queued again at once. A job that ``squeue`` does not list has ended, too.
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
     "TIMEOUT")
)  # fmt: skip

#: Seconds between two looks for results, and between two calls of ``squeue``.
LOOK_S, ASK_S = 1.0, 10.0

#: Seconds for which a job has to be gone before it counts as dead: a shared disk may show its result late, and a job that
#: is queued again may be in no state or a last one for a moment.
GONE_S = 20.0

#: Seconds after which a command of Slurm's that does not answer is given up.
LIMIT_S = 60.0

#: Seconds that a job waits for ``jobs.json`` to name it.
CLAIM_S = 60.0

#: Cells per array; Slurm's default limit is 1001.
ARRAY = 1000

#: How often a cell may run out of Slurm's time and be queued again; each time it gets further.
TIMEOUTS = 100


class Job:
    """What submitit runs: a cell, if ``jobs.json`` says that it is this job's."""

    def __call__(self, cell: Cell) -> bool:
        """Runs the cell; whether it ended well."""
        import submitit

        return claimed(cell, submitit.JobEnvironment().job_id) and work(cell)

    def checkpoint(self, cell: Cell) -> Any:
        """What submitit queues again when time is up: the same, which goes on from the cell's last checkpoint."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self, cell)


def claimed(cell: Cell, job: str) -> bool:
    """Whether the cell is this job's; waits for the sweep, which writes that down once all jobs are submitted."""
    end = time.monotonic() + CLAIM_S
    while not (own := (read_sealed(cell.cells.parent / JOBS) or {}).get(cell.key) == job) and time.monotonic() < end:
        time.sleep(LOOK_S)
    if not own:
        print(f"metaser: {JOBS} gives {cell} to another job than {job}, which ends", file=sys.stderr)
    return own


class Queue:
    """A sweep's jobs.

    Args:
        folder: The sweep's results folder.
        settings: What a job asks for.
        name: The sweep's name.

    Raises:
        UserError: if Slurm or submitit is not here.
    """

    def __init__(self, folder: Path, settings: Slurm, name: str) -> None:
        self.name, self.jobs, self.folder = f"metaser-{name}", folder / JOBS, folder / "submitit"
        self._silent = False
        missing = [command for command in COMMANDS if shutil.which(command) is None]
        if missing:
            raise UserError(f"executor: slurm: there is no Slurm on this machine (no command {missing[0]}); start the sweep on "
                            f"a login node, or use executor: local")  # fmt: skip
        try:
            import submitit
        except ImportError:
            raise UserError("executor: slurm needs submitit, which is not installed; run pip install submitit, or use "
                            "executor: local") from None  # fmt: skip
        self.executor = submitit.AutoExecutor(self.folder, cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
        optional = {f"slurm_{key}": value for key in ("partition", "account", "qos", "constraint")
                    if (value := getattr(settings, key)) is not None}  # fmt: skip
        self.executor.update_parameters(
            name=self.name, timeout_min=settings.time_min, mem_gb=settings.mem_gb, tasks_per_node=1, nodes=1,
            cpus_per_task=settings.cpus_per_task, gpus_per_node=settings.gpus_per_node or None,
            slurm_array_parallelism=settings.at_once, **optional,
        )  # fmt: skip

    def run(self, cells: Sequence[Cell], ended: Ended) -> None:
        """Runs cells, those first that jobs of an earlier sweep are at; cancels the jobs that are left when interrupted.

        Args:
            cells: What to run.
            ended: Told of every cell that ended.

        Raises:
            UserError: if Slurm does not answer, or takes no jobs.
        """
        pending = self.found(cells)
        if pending:
            say(f"{len(pending)} cells have jobs of an earlier sweep in Slurm's queue, which are waited for")
        try:
            taken = {cell.key for cell in pending.values()}
            for cell in cells:
                if cell.done:  # an earlier job came to its end meanwhile
                    ended(cell, "")
            self.submit([cell for cell in cells if not cell.done and cell.key not in taken], pending)
            self.watch(pending, ended)
        finally:
            self.cancel(list(pending))

    def found(self, cells: Sequence[Cell]) -> dict[str, Cell]:
        """Job → cell, of the jobs of an earlier sweep that are still pending or running.

        Raises:
            UserError: if Slurm does not answer, or ``jobs.json`` is damaged: cells might be run twice.
        """
        known = read_sealed(self.jobs) if self.jobs.exists() else {}
        if not isinstance(known, dict):
            raise UserError(f"{self.jobs}: is not what a sweep wrote; remove it when squeue shows no jobs {self.name}")
        ours = {known[cell.key]: cell for cell in cells if cell.key in known}
        while True:
            states = self.states()
            if states is None:
                raise UserError("executor: slurm: squeue does not answer; start the sweep again when it does")
            if not any(states.get(job) == "COMPLETING" for job in ours):
                return {job: cell for job, cell in ours.items()
                        if alive(job, states) and not cell.done and not self.left_result(job)}  # fmt: skip
            time.sleep(LOOK_S)  # it may have been cancelled a moment ago, and still be writing its results

    def submit(self, cells: Sequence[Cell], pending: dict[str, Cell]) -> None:
        """Puts cells into the queue and writes down their jobs.

        Raises:
            UserError: if Slurm takes no jobs.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        for first in range(0, len(cells), ARRAY):
            some = list(cells[first : first + ARRAY])
            for cell in some:
                (cell.folder / ERROR).unlink(missing_ok=True)  # of an earlier try
            with shielded():  # what is in the queue is known
                try:
                    jobs = self.executor.map_array(Job(), some)
                except (FailedJobError, FailedSubmissionError) as error:
                    raise UserError(f"the cells cannot be submitted: {first_line(error)}") from None
                pending.update((job.job_id, cell) for job, cell in zip(jobs, some, strict=True))
                known = read_sealed(self.jobs) or {}
                write_sealed(self.jobs, {**known, **{cell.key: job for job, cell in pending.items()}})

    def watch(self, pending: dict[str, Cell], ended: Ended) -> None:
        """Waits for jobs, which leave ``pending`` as they end: with a result, or because Slurm has them no more."""
        gone: dict[str, float] = {}
        due = 0.0
        while pending:
            over = {job: UNFINISHED for job in pending if self.left_result(job)}
            now = time.monotonic()
            if now >= due:
                due, states = now + ASK_S, self.states()
                if states is not None:  # else nothing is known, and nobody is dead
                    gone = {job: gone.get(job, now) for job in pending if job not in over and not alive(job, states)}
                    over |= {job: f"its Slurm job {job} has ended ({states.get(job, 'no longer in the queue')})"
                             for job, since in gone.items() if now - since >= GONE_S}  # fmt: skip
            for job, how in over.items():
                ended(pending.pop(job), f"{how}; {self.last_words(job)}")
            time.sleep(LOOK_S if pending else 0)

    def states(self) -> dict[str, str] | None:
        """Job → state, of all jobs of this name that ``squeue`` still lists; None, and a word, if it does not answer."""
        command = ("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T %j")
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            if not self._silent:
                reason = getattr(error, "stderr", None) or error
                say(f"squeue does not answer ({' '.join(str(reason).split())}); it is asked again")
            self._silent = True
            return None
        self._silent = False
        rows = (line.split(maxsplit=2) for line in answer.splitlines())
        return {row[0]: row[1] for row in rows if len(row) == 3 and row[2].strip() == self.name}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Takes jobs out of the queue, and ends those that run."""
        if jobs:
            with shielded():
                try:
                    subprocess.run(["scancel", *jobs], capture_output=True, timeout=LIMIT_S, check=True)
                except (OSError, subprocess.SubprocessError):
                    say(f"these jobs cannot be cancelled: {' '.join(jobs)}")

    def paths(self, job: str) -> Any:
        """Where submitit keeps what is a job's."""
        from submitit.core.utils import JobPaths

        return JobPaths(self.folder, job_id=job)

    def left_result(self, job: str) -> bool:
        """Whether a job came to its own end."""
        return bool(self.paths(job).result_pickle.exists())

    def last_words(self, job: str) -> str:
        """The last line that a job printed to its error stream, and where that is."""
        path = self.paths(job).stderr
        try:
            said = [line.strip() for line in path.read_text(errors="replace").split("\n") if line.strip()]
        except OSError:
            said = []
        return f"{said[-1]} ({path})" if said else "it printed nothing"


def alive(job: str, states: Mapping[str, str]) -> bool:
    """Whether a job is in the queue or running. Of a state that is not known it is believed while ``squeue`` lists it."""
    return job in states and states[job] not in ENDED
