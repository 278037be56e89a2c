"""A run of an experiment: its settings, its speech, its trials (train, test, record), its results folder.

An experiment folder holds ``run.py`` (a function ``run(run: Run)`` that goes through the trials and reports),
``config.yaml`` and ``paper.csv``. What is common to all of them is here.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from metaser import images, models
from metaser.config import Experiment, Features
from metaser.config.study import Study
from metaser.corpora.selection import Selection, announce, select
from metaser.engine import device
from metaser.experiment.pool import Ended, Ticked, side_by_side
from metaser.experiment.runner import Job, Runner
from metaser.experiment.trial import TrialRun
from metaser.experiment.trials import Trial, Trials
from metaser.features import FeatureSet, extract, normalise, recipe
from metaser.images import ImageData
from metaser.reporting import recording, tables
from metaser.reporting.finished import Finished, draw
from metaser.reporting.folder import PROFILE, SHARED, ResultsFolder
from metaser.reporting.kept import Kept, digest_of
from metaser.runtime.errors import PartialError, StoppedError, UserError, first_line, nearest
from metaser.runtime.files import data_root
from metaser.runtime.parallel import Workers, available_cores
from metaser.runtime.progress import progress, say
from metaser.runtime.provenance import provenance
from metaser.runtime.ranks import Ranks
from metaser.training import methods
from metaser.training.profiling import profiled

#: The recipe of images, which are taken as they are.
PIXELS = "pixels"


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


class Run:
    """One variant of an experiment on the speech that is there.

    Args:
        experiment: The experiment's folder.
        variant: A key of ``variants`` in its configuration.
        overrides: ``key=value`` settings over all overlays.
        protocols: Which of the configuration's protocols; all when empty.
        root: The data root, before ``data_root`` of the configuration and METASER_DATA.
        out: The folder that holds the results of all experiments.
        options: How it goes about it.

    Raises:
        UserError: for any mistake in the arguments, the configuration or the corpora; before anything is trained.
    """

    #: Domains that must be there: one to test on, and one to train on.
    fewest = 2

    def __init__(
        self, experiment: Path, variant: str, overrides: Sequence[str], out: Path, protocols: Sequence[str] = (),
        root: Path | None = None, options: RunOptions | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.options = experiment, options or RunOptions()
        self.study = Study(experiment / "config.yaml", methods)
        if self.study.variants and not variant:
            raise UserError(f"{self.study.path}: choose a variant with --variant: {', '.join(self.study.variants)}")
        self.variant, self.overrides = variant, tuple(overrides)
        self.protocols = tuple(protocols) or tuple(self.study.protocols)
        drafts = [self._settings(protocol, synthetic=False) for protocol in self.protocols]
        for settings in drafts:
            check_names(settings)
            where = device(settings.engine)
        self.ranks = Ranks.join(where)
        root = data_root(root or drafts[0].data_root)
        if not self.ranks.first:
            self.ranks.tell(None)  # rank 0 makes what has to be made
        self.speech, self._images = self._select(drafts[0], root)
        if self.ranks.first:
            announce(self.speech, root)
            self.ranks.tell(None)
        synthetic = self.speech.kind == "synthetic"
        self.settings = {name: self._settings(name, synthetic) for name in self.protocols}
        self._check_processes()
        for settings in self.settings.values():
            absent = self.speech.absent if settings.data.source_sets else ()
            self._check("data.targets", settings.data.targets, absent)
            for names in settings.data.sets:
                self._check("data.source_sets" if settings.data.source_sets else "data.sources", names, absent)
        self.targets = {target: self.speech.titles[target] for target in self.first.data.targets or self.speech.domains
                        if target in self.speech.domains}  # fmt: skip
        self.trials = Trials(self.settings, self.speech, list(self.targets), variant)
        self.paper = tables.read_paper(experiment / "paper.csv")
        self.paper = self.paper[self.paper["variant"] == variant]
        self.results = ResultsFolder(out / self.first.experiment / variant / self.speech.kind)
        self.published = False
        self._started = time.monotonic()
        self._provenance = provenance(self.folder, self.device.type)  # now: the code may change while it runs
        self._digests: dict[str, str] = {}
        self._done: list[dict[str, Any]] = []

    def _select(self, settings: Experiment, root: Path | None) -> tuple[Selection, ImageData | None]:
        if settings.data.images:
            with progress("reading images") as update:
                return images.select(settings.data, root, update)
        with progress("making the built-in corpus") as update:
            return select(settings.data, settings.tasks, root, update, self.fewest), None

    def _settings(self, protocol: str, synthetic: bool) -> Experiment:
        return self.study.experiment(
            variant=self.variant, protocol=protocol, synthetic=synthetic, overrides=self.overrides
        )

    @property
    def first(self) -> Experiment:
        """The settings of the first protocol, for what all protocols share."""
        return self.settings[self.protocols[0]]

    @property
    def device(self) -> torch.device:
        """Where the networks are trained."""
        return device(self.first.engine)

    def _check(self, key: str, names: Sequence[str], absent: Sequence[str]) -> None:
        """Refuses a domain that is not there, and is no corpus that could be.

        Raises:
            UserError: with the nearest that is.
        """
        for name in names:
            if name not in self.speech.domains and name not in absent:
                raise UserError(f"{key}: no domain {name!r} here; {nearest(name, self.speech.domains)}")

    @cached_property
    def _features(self) -> dict[Features, FeatureSet]:
        """By their settings, which several algorithms may share."""
        wanted = [settings.of(label).features for settings in self.settings.values() for label in settings.algorithms]
        return {one: self._extract(one) for one in dict.fromkeys(wanted)}

    def features(self, trial: Trial) -> FeatureSet:
        """Of all clips, normalised as a trial's settings say; on the device that is to compute."""
        return self._features[self.trials.of(trial).features]

    def _extract(self, settings: Features) -> FeatureSet:
        if self._images:
            self._digests[PIXELS] = self._images.digest
            lengths = torch.full((len(self._images.x),), self._images.x.shape[2])
            return FeatureSet(
                self._images.x.to(self.device), lengths, self._images.table, PIXELS, self._digests[PIXELS]
            )
        chosen = recipe(settings.recipe, backend=settings.backend)
        with progress(f"extracting features ({chosen.name})") as update:
            features = extract(self.speech.table, chosen, update)
        self._digests[chosen.name] = features.digest
        features = normalise(features, settings.normalise)
        return replace(features, x=features.x.to(self.device))

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """The folder to write results into, which are published when the block ends well; what models gave stays in any case.

        Raises:
            UserError: if results cannot be written, another run is writing them, or a clip cannot be read; before anything
                is trained.
        """
        if not self.ranks.first:
            self.published = self.ranks.tell(False)  # rank 0 has the features in the cache, and the folder
            self._features  # noqa: B018
            yield self.results.outputs
            return
        for protocol, settings in self.settings.items():
            nameless = (self.speech.table["speaker"] == "").sum() if settings.tasks.speakers == "disjoint" else 0
            if nameless:
                say(f"{protocol}: {nameless} clips without a known speaker are left out")
        self._point_to_older()
        with self.results.held():
            self._features  # noqa: B018  (an unreadable clip is found before anything is trained)
            models = {job.name: digest_of(job.identity) for job in self.jobs}
            complete = self.results.complete()  # where an earlier run was cut off when all but the clearing was done
            self.published = self.ranks.tell(self.options.resume and complete == models)
            if self.published:
                self.results.clear()
                yield self.results.final
                return
            if complete is not None:
                self.results.clear(wholly=False)
            if not self.options.resume:
                self.results.begin_over()
            yield self.results.fresh()
            if any(self.results.outputs.iterdir()):
                self.results.publish(models)
                self.results.clear()

    def _point_to_older(self) -> None:
        older = self.results.final.with_name(f".{self.results.final.name}.partial")
        if older.is_dir():
            say(
                f"{older}: holds an unfinished run of an earlier version, which this one cannot go on with; it is left as it is"
            )

    def carry_out(self, render: Callable[[Finished, pd.DataFrame], None]) -> None:
        """All of an experiment: trains and tests every trial, writes the CSV files, has plots and ``table.md`` made, shows it.

        Args:
            render: Draws a finished run, with the paper's numbers for its variant.

        Raises:
            PartialError: if a model failed, or the drawing; whatever else is done is kept.
        """
        failure = ""
        with self.writing() as folder:
            if not self.published:
                self.all_trials()
                if not self.ranks.first:
                    return
                self.write(folder)
                failure = self._drawing(render, folder)
        if not self.ranks.first:
            return
        if failure:
            raise PartialError([f"{failure}; the numbers are in {self.results.final}, and `metaser render {self.folder} "
                                f"{self.results.final}` draws them"])  # fmt: skip
        print((self.results.final / "table.md").read_text(encoding="utf-8"))
        pace = (
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in recording.pace(self._done).items())
            if self._done
            else ""
        )
        if pace:  # else no method has an outer loop
            print(f"time per 100 epochs (meta-iterations): {pace}")
        print(f"written to {self.results.final}")

    def _drawing(self, render: Callable[[Finished, pd.DataFrame], None], folder: Path) -> str:
        """Has plots and table made; why that failed, in one line, or nothing."""
        try:
            draw(render, Finished(folder), self.paper)
        except StoppedError:
            raise
        except Exception as error:  # whatever a plot raises, the numbers are there
            what = first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
            return f"drawing failed ({what})"
        return ""

    def identity(self) -> dict[str, Any]:
        """All that decides the run's numbers: a stopped run goes on only where this is the same."""
        return {
            "settings": {name: settings.model_dump(mode="json") for name, settings in self.settings.items()},
            "targets": list(self.targets),
            "features": self._digests,
            "versions": {name: metadata.version(name) for name in ("metaser", "torch", "learn2learn", "numpy")},
            "device": self.device.type,
        }

    def model_identity(self, trial: Trial) -> dict[str, Any]:
        """The part of the run's identity that decides one model's numbers: other methods, targets and seeds do not."""
        whole, own = self.identity(), self.trials.alone(trial)
        settings = own.model_dump(mode="json")
        settings.pop("data_root")  # features tell what speech it is
        monitored = own.training.monitored
        settings["training"]["monitored"] = not monitored or trial.algorithm in monitored
        features = self.features(trial)
        tree = {**whole, "settings": settings, "targets": trial.targets, "features": {features.name: features.digest}}
        own_code = methods.source_digest(self.trials.of(trial).algorithms[trial.algorithm].name)
        return json.loads(json.dumps({**tree, "own_code": own_code} if own_code else tree))

    @cached_property
    def jobs(self) -> list[Job]:
        """Every model of the run."""
        return [Job(trial, self.model_identity(trial)) for trial in self.trials.all()]

    def all_trials(self) -> None:
        """Trains and tests every trial that is not yet done; call it inside `writing`.

        Raises:
            UserError: if a class is too small, or a model that is there was made by another configuration; before anything is
                trained.
            PartialError: if models failed, after all others are done.
        """
        if not self.jobs:
            raise UserError(f"data.source_sets: no set of sources and no target is there whole; not there: "
                            f"{', '.join(self.speech.absent)} (`metaser data list` says where to get them)")  # fmt: skip
        self._check_models()
        kept = Kept(self.results.path)
        known = [kept.find(job.name, job.identity) if self.ranks.first else None for job in self.jobs]
        left = [job for job, there in zip(self.jobs, self.ranks.tell([one is not None for one in known]), strict=True)
                if not there]  # fmt: skip
        if self.ranks.first:
            self.results.begin({**self.facts(), "variant": self.variant, "models": [job.name for job in self.jobs]})
        failures = self._train(left, kept)
        if failures:
            raise PartialError(
                [*(f"{title}: {reason}" for title, reason in failures.items()), self._advice(len(failures))]
            )
        if self.ranks.first:
            self._done = [kept.find(job.name, job.identity) or {} for job in self.jobs]
            others = kept.others({job.name: job for job in self.jobs})
            if others:
                say(f"{self.results.path}: keeps {len(others)} finished models that are not of this run")

    def _check_models(self) -> None:
        """Refuses settings that no model can be made of; before anything is trained.

        Raises:
            UserError: that names the setting.
        """
        for job in self.jobs:
            self.trials.samplers(job.trial)
        with Workers(1) as workers:
            for trial in {(job.trial.protocol, job.trial.algorithm): job.trial for job in self.jobs}.values():
                TrialRun(self.trials, trial, self.features(trial), workers)

    def _advice(self, failed: int) -> str:
        folder, count = self.results.path, len(self.jobs)
        return (f"{failed} of {count} models failed; the same command tries only these again" +
                (f", and `metaser render {self.folder} {folder}` draws the others" if failed < count else ""))  # fmt: skip

    def _train(self, left: Sequence[Job], kept: Kept) -> dict[str, str]:
        """Does these jobs, side by side where that is possible.

        Returns:
            Title → reason of those that failed.
        """
        groups = list(grouped(left, self.trials))
        processes = self._processes(len(groups))
        made = {"commit": self._provenance["commit"], "versions": self._provenance["versions"], "processes": processes}
        jobs = Runner(self.trials, self._features, kept, self.options.every, made)
        steps = {job.name: self._steps(job.trial) for job in left}
        done, total, failures = dict.fromkeys(steps, 0), sum(steps.values()), dict[str, str]()
        with progress(f"{len(left)} models, meta-iterations and test tasks", total) as update:

            def ticked(job: Job, iteration: int) -> None:
                done[job.name] = iteration
                update(sum(done.values()), total)

            def ended(job: Job, reason: str) -> None:
                if reason:
                    failures[job.title] = reason
                    if self.ranks.first and len(left) > 1:
                        say(f"{job.title}: failed; the others go on")
                ticked(job, steps[job.name])

            if processes > 1:
                packed = jobs.pack(list(left), self.results.path / SHARED)
                side_by_side(packed, groups, processes, available_cores() // processes, ticked, ended)
            else:
                self._one_by_one(jobs, left, ticked, ended)
        return failures

    def _one_by_one(self, jobs: Runner, left: Sequence[Job], ticked: Ticked, ended: Ended) -> None:
        cuda, profile = self.device.type == "cuda", self.options.profile and self.ranks.first
        with (
            Workers(1 if cuda else None, self.ranks) as workers,
            profiled(self.results.path / PROFILE if profile else None, cuda) as seen,
        ):

            def tick(job: Job, iteration: int) -> None:
                ticked(job, iteration)
                if seen:
                    seen()

            for job in left:
                ended(job, jobs.attempt(job, workers, partial(tick, job)))

    def _processes(self, groups: int) -> int:
        """How many processes train models; 1 for this one alone."""
        return 1 if self._alone() else max(1, min(self.options.processes or available_cores(), groups))

    def _alone(self) -> str:
        """Why models are trained one after another, if they have to be."""
        reasons = {"under torchrun": self.ranks.count > 1, "on a GPU": self.device.type == "cuda",
                   "with --profile": self.options.profile}  # fmt: skip
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _check_processes(self) -> None:
        """Refuses a number of processes that makes no sense.

        Raises:
            UserError: with what would be right.
        """
        wanted = self.options.processes
        if wanted < 0:
            raise UserError(f"--processes: {wanted} is impossible; give 1 or more, or 0 for as many as there are cores")
        if wanted > 1 and self._alone():
            raise UserError(f"--processes: {self._alone()} models are trained one after another; leave it out")

    def _steps(self, trial: Trial) -> int:
        """How much work a trial is, for the progress display."""
        settings = self.trials.of(trial)
        return settings.training.iterations + settings.evaluation.tasks * len(trial.targets)

    def write(self, folder: Path) -> None:
        """Writes the CSV files and ``run.json`` (`metaser.reporting.recording.record`), after `all_trials`."""
        wall = round(time.monotonic() - self._started, 1)
        recording.record(self._done, {**self.facts(), "wall_seconds": wall}, self.paper, folder)
        profile = self.results.path / PROFILE
        if profile.exists():
            shutil.copyfile(profile, folder / PROFILE)

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says of the run as a whole: configuration, seeds, provenance, data digest."""
        return {
            "settings": {name: settings.model_dump(mode="json") for name, settings in self.settings.items()},
            "overrides": list(self.overrides),
            "data": {"kind": self.speech.kind, "collection": self.speech.collection, "domains": self.speech.titles,
                     "clips": self.speech.table["domain"].value_counts().to_dict(),
                     "emotions": {str(domain): rows["emotion"].value_counts().to_dict()
                                  for domain, rows in self.speech.table.groupby("domain") if self.first.data.emotions},
                     "absent": list(self.speech.absent), "features_sha256": self._digests},
            "ranks": self.ranks.count,
            **self._provenance,
        }  # fmt: skip


def grouped(jobs: Sequence[Job], trials: Trials) -> Iterator[list[Job]]:
    """The jobs, those together that share their pre-training (`fit_once`), which one process remembers."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        trial = job.trial
        shares = trials.of(trial).algorithms[trial.algorithm].fit("pretraining")
        key = (trial.protocol, trial.source, trial.target, trial.seed, shares.model_dump_json()) if shares else trial
        groups.setdefault(key, []).append(job)
    yield from groups.values()


def check_names(settings: Experiment) -> None:
    """Refuses an unknown recipe or network before any work is done.

    Raises:
        UserError: with the nearest right name.
    """
    for label, algorithm in settings.algorithms.items():
        own = settings.of(label)
        if not settings.data.images:
            recipe(own.features.recipe, backend=own.features.backend)
        elif own.features != Features(recipe=PIXELS):
            raise UserError(f"features: images have none but {{recipe: {PIXELS}}}")
        if own.model.name not in models.MODELS:
            key = "model.name" if algorithm.model is None else f"algorithms.{label}.model.name"
            raise UserError(f"{key}: unknown name {own.model.name!r}; {nearest(own.model.name, list(models.MODELS))}")
        tuning = algorithm.fit("tuning")
        if own.tasks.order == "own" and not (tuning and tuning.head == "fresh"):
            raise UserError(f"algorithms.{label}: with order: own the outputs are the sources' classes; to be asked about others "
                            "it needs tuning: {head: fresh}")  # fmt: skip
        if methods.kind(algorithm.name).keeps_fixed and not settings.tasks.fixed:
            raise UserError(
                f"algorithms.{label}: {algorithm.name} needs fixed classes; set tasks.fixed, such as [silence]"
            )
