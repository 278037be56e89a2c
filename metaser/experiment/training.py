"""A run's models trained and tested: side by side in processes, or one after another in this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from metaser.experiment.pool import side_by_side
from metaser.experiment.runner import Job, Runner
from metaser.experiment.trials import Trials
from metaser.reporting.folder import PROFILE, SHARED
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers, available_cores
from metaser.runtime.progress import progress, say
from metaser.runtime.ranks import Ranks
from metaser.training.profiling import Profile, profiled


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about its work, which decides no number.

    Attributes:
        resume: Use what an unfinished run has left; if not, begin over.
        every: Meta-iterations from one checkpoint to the next; 0 for one a minute.
        profile: Also write ``profile.txt``, where the time of the first model's training goes.
        processes: Models that are trained side by side; 0 for as many as there are cores and models.
    """

    resume: bool = True
    every: int = 0
    profile: bool = False
    processes: int = 0


def most(options: RunOptions, ranks: Ranks, device: torch.device) -> int:
    """How many models may be trained side by side; 1 where they are trained one after another in this process.

    Raises:
        UserError: if a number is wanted that makes no sense.
    """
    reasons = {"under torchrun": ranks.count > 1, "on a GPU": device.type == "cuda", "with --profile": options.profile}
    alone = next((reason for reason, holds in reasons.items() if holds), "")
    if options.processes < 0:
        raise UserError(
            f"--processes: {options.processes} is impossible; give 1 or more, or 0 for as many as there are cores"
        )
    if options.processes > 1 and alone:
        raise UserError(f"--processes: {alone} models are trained one after another; leave it out")
    return 1 if alone else options.processes or available_cores()


def grouped(jobs: Sequence[Job], trials: Trials) -> list[list[Job]]:
    """The jobs, those together that share their pre-training (`fit_once`), which one process remembers."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        trial = job.trial
        shares = trials.of(trial).algorithms[trial.algorithm].fit("pretraining")
        key = (trial.protocol, trial.source, trial.target, trial.seed, shares.model_dump_json()) if shares else trial
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def train_all(
    runner: Runner, groups: Sequence[Sequence[Job]], processes: int, ranks: Ranks, device: torch.device, folder: Path,
    profile: bool,
) -> dict[str, str]:  # fmt: skip
    """Does all jobs.

    Args:
        runner: What does each.
        groups: What `grouped` gave.
        processes: How many are done side by side; 1 for one after another in this process.
        ranks: The processes that share the work on each.
        device: Where to compute.
        folder: The run's partial folder.
        profile: Whether the first one's training is profiled.

    Returns:
        Title → reason of those that failed.

    Raises:
        StoppedError: if the run cannot go on.
    """
    jobs = [job for group in groups for job in group]
    steps = {job.name: runner.trials.steps(job.trial) for job in jobs}
    done, total, failures = dict.fromkeys(steps, 0), sum(steps.values()), dict[str, str]()
    with progress(f"{len(jobs)} models, meta-iterations and test tasks", total) as update:

        def ticked(job: Job, iteration: int, seen: Profile | None = None) -> None:
            done[job.name] = iteration
            update(sum(done.values()), total)
            if seen:
                seen()

        def ended(job: Job, reason: str) -> None:
            if reason:
                failures[job.title] = reason
                if ranks.first and len(jobs) > 1:
                    say(f"{job.title}: failed; the others go on")
            ticked(job, steps[job.name])

        if processes > 1:
            start = partial(Runner.start, runner.pack(jobs, folder / SHARED), available_cores() // processes)
            side_by_side([start] * processes, groups, ticked, ended)
            return failures
        cuda = device.type == "cuda"
        with (
            Workers(1 if cuda else None, ranks) as workers,
            profiled(folder / PROFILE if profile else None, cuda) as seen,
        ):
            for job in jobs:
                ended(job, runner.attempt(job, partial(ticked, job, seen=seen), workers))
    return failures
