"""Single models of a run, trained, tested and kept, in this process or in another."""

from __future__ import annotations

import errno
import pickle
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from metaser.config import Features
from metaser.experiment.pool import Work
from metaser.experiment.trial import TrialRun
from metaser.experiment.trials import Trial, Trials
from metaser.features import FeatureSet
from metaser.reporting.kept import Kept, name_of, title_of
from metaser.runtime.errors import DivergedError, StoppedError, UnwritableError, UserError, first_line
from metaser.runtime.files import write_text
from metaser.runtime.parallel import Workers
from metaser.runtime.provenance import processor
from metaser.training import methods

#: What a disk says that cannot take more: no reason to try the next model.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """One model of a run.

    Attributes:
        trial: Which.
        identity: All that decides its numbers.
    """

    trial: Trial
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What its files are called."""
        return name_of(asdict(self.trial))

    @property
    def title(self) -> str:
        """What errors call it."""
        return title_of(asdict(self.trial))


class Runner:
    """What it takes to do any model of a run.

    Args:
        trials: The run's.
        features: Of all clips, by their settings.
        kept: Where finished models and checkpoints are.
        every: As in `metaser.training.checkpoint.Checkpoints`.
        made: What is recorded of the run with each model: its commit, and how many processes there are.
    """

    def __init__(
        self, trials: Trials, features: Mapping[Features, FeatureSet], kept: Kept, every: int, made: Mapping[str, Any]
    ) -> None:
        self.trials, self.features, self.kept, self.every, self.made = trials, dict(features), kept, every, dict(made)

    def attempt(self, job: Job, tick: Callable[[int], None], workers: Workers) -> str:
        """Trains and tests a model, and keeps what came of it.

        Args:
            job: Which.
            tick: Called after every meta-iteration with its number.
            workers: The threads.

        Returns:
            Why it failed, in one line; nothing if it did not. Whatever a model raises is its own failure.

        Raises:
            StoppedError: if the run cannot go on: it is told to stop, or the disk takes no more.
        """
        try:
            self._carry_out(job, tick, workers)
        except StoppedError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise UnwritableError(f"cannot write {error.filename or 'results'} ({error.strerror})") from None
            if workers.ranks.count > 1 and not isinstance(error, DivergedError):
                raise  # the other ranks may not have met it, and would wait
            return self._failed(job, error, workers.ranks.first)
        return ""

    def _carry_out(self, job: Job, tick: Callable[[int], None], workers: Workers) -> None:
        first = workers.ranks.first
        folder = self.kept.begin(job.name, job.identity) if first else self.kept.checkpoints(job.name)
        work = TrialRun(self.trials, job.trial, self.features[self.trials.of(job.trial).features], workers)
        result = work.carry_out(tick, folder, self.every)
        if first:
            made = {**self.made, "processor": processor(), "threads": workers.count,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}  # fmt: skip
            content = {"model": asdict(job.trial), "identity": job.identity, "made": made, "result": vars(result)}
            self.kept.keep(job.name, content)

    def _failed(self, job: Job, error: Exception, first: bool) -> str:
        """The reason in one line; the rest goes to the log."""
        if isinstance(error, DivergedError) and first:
            self.kept.forget(job.name)  # from its checkpoints it would diverge again
        if isinstance(error, UserError):
            return str(error)
        reason = f"{type(error).__name__}: {first_line(error)}"
        log = self.kept.log(job.name)
        if first:
            write_text(log, "".join(traceback.format_exception(error)))
        return f"{reason} ({log})"

    def pack(self, jobs: Sequence[Job], folder: Path) -> bytes:
        """What another process needs for some of the jobs; the features are in files of a folder, read without a copy.

        Raises:
            UnwritableError: if the files cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        packed, needed = {}, dict.fromkeys(self.trials.of(job.trial).features for job in jobs)
        for number, wanted in enumerate(needed):
            features, file = self.features[wanted], folder / f"{number}.safetensors"
            tensors = {"x": features.x.contiguous(), "lengths": features.lengths.contiguous()}
            try:
                save_file(tensors, file)
            except (SafetensorError, OSError) as error:
                raise UnwritableError(f"cannot write {file} ({first_line(error)})") from None
            packed[wanted] = replace(features, x=torch.empty(0), lengths=torch.empty(0)), file.absolute()
        trials = self.trials
        settings = {
            name: one.model_dump(mode="json") for name, one in trials.settings.items()
        }  # its classes may be a user's
        return pickle.dumps(((settings, trials.speech, trials.targets, trials.variant), packed,
                             Kept(self.kept.folder.absolute()), self.every, self.made))  # fmt: skip

    @classmethod
    def start(cls, data: bytes, threads: int) -> Work[Job]:
        """`attempt` in a process of its own, with threads of its own, for jobs that `pack` packed."""
        return partial(cls.unpack(data).attempt, workers=Workers(threads))

    @classmethod
    def unpack(cls, data: bytes) -> Runner:
        """What `pack` packed, in another process."""
        trials, packed, kept, every, made = pickle.loads(data)
        features = {}
        for wanted, (stripped, file) in packed.items():
            with safe_open(file, framework="pt") as tensors:  # maps the file: all processes share its pages
                features[wanted] = replace(stripped, x=tensors.get_tensor("x"), lengths=tensors.get_tensor("lengths"))
        settings, *rest = trials
        read = {name: methods.experiment(tree) for name, tree in settings.items()}
        return cls(Trials(read, *rest), features, kept, every, made)
