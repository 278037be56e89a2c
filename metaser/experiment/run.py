"""A run of an experiment: its settings, its speech, its trials (train, test, record), its results folder.

An experiment folder holds ``run.py`` (a function ``render`` that draws a finished run), ``config.yaml`` and ``paper.csv``. What is
common to all of them is here.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from metaser.config import Experiment, Features
from metaser.config.study import Study
from metaser.corpora.selection import announce
from metaser.engine import device
from metaser.experiment import data
from metaser.experiment.runner import Job, Runner
from metaser.experiment.training import RunOptions, grouped, most, train_all
from metaser.experiment.trial import TrialRun
from metaser.experiment.trials import Trial, Trials
from metaser.features import FeatureSet
from metaser.reporting import recording, tables
from metaser.reporting.finished import Finished, draw
from metaser.reporting.folder import PROFILE, ResultsFolder
from metaser.reporting.kept import Kept, digest_of
from metaser.runtime.errors import PartialError, StoppedError, UserError, first_line
from metaser.runtime.files import data_root
from metaser.runtime.parallel import Workers
from metaser.runtime.progress import say
from metaser.runtime.provenance import provenance
from metaser.runtime.ranks import Ranks
from metaser.training import methods


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
        self.variant, self.overrides = variant, tuple(overrides)
        study = Study(experiment / "config.yaml", methods)
        if study.variants and not variant:
            raise UserError(f"{study.path}: choose a variant with --variant: {', '.join(study.variants)}")
        named: dict[str, dict[str, Any]] = {name: {"variant": variant, "protocol": name, "overrides": overrides}
                                            for name in protocols or study.protocols}  # fmt: skip
        self.settings = {name: study.experiment(**names) for name, names in named.items()}
        for settings in self.settings.values():
            data.check_names(settings)
            device(settings.engine)  # which refuses a GPU that is not there
        self.ranks = Ranks.join(self.device)
        root = data_root(root or self.first.data_root)
        if not self.ranks.first:
            self.ranks.tell(None)  # rank 0 makes what has to be made
        self.speech, self._images = data.selected(self.first, root, self.fewest)
        if self.ranks.first:
            announce(self.speech, root)
            self.ranks.tell(None)
        if self.speech.kind == "synthetic":
            self.settings = {name: study.experiment(**names, synthetic=True) for name, names in named.items()}
        self._most = most(self.options, self.ranks, self.device)
        for settings in self.settings.values():
            data.check_domains(settings, self.speech)
        self.targets = {target: self.speech.titles[target] for target in self.first.data.targets or self.speech.domains
                        if target in self.speech.domains}  # fmt: skip
        self.trials = Trials(self.settings, self.speech, list(self.targets), variant)
        self.paper = tables.read_paper(experiment / "paper.csv")
        self.paper = self.paper[self.paper["variant"] == variant]
        self.results = ResultsFolder(out / self.first.experiment / variant / self.speech.kind)
        self._started = time.monotonic()
        self._provenance = provenance(self.folder, self.device.type)  # now: the code may change while it runs
        self._done: list[dict[str, Any]] = []

    @property
    def first(self) -> Experiment:
        """The settings of the first protocol, for what all protocols share."""
        return next(iter(self.settings.values()))

    @property
    def device(self) -> torch.device:
        """Where the networks are trained."""
        return device(self.first.engine)

    @cached_property
    def _features(self) -> dict[Features, FeatureSet]:
        """By their settings, which several algorithms may share."""
        wanted = [settings.of(label).features for settings in self.settings.values() for label in settings.algorithms]
        return {one: data.features(one, self.speech, self._images, self.device) for one in dict.fromkeys(wanted)}

    def features(self, trial: Trial) -> FeatureSet:
        """Of all clips, normalised as a trial's settings say; on the device that is to compute."""
        return self._features[self.trials.of(trial).features]

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """The folder to write results into, which are published when the block ends well; what models gave stays in any case.
        The final folder where an earlier run has published all of them.

        Raises:
            UserError: if results cannot be written, another run is writing them, or a clip cannot be read; before anything
                is trained.
        """
        if not self.ranks.first:
            published = self.ranks.tell(False)  # rank 0 has the features in the cache, and the folder
            self._features  # noqa: B018
            yield self.results.final if published else self.results.outputs
            return
        for protocol, settings in self.settings.items():
            nameless = (self.speech.table["speaker"] == "").sum() if settings.tasks.speakers == "disjoint" else 0
            if nameless:
                say(f"{protocol}: {nameless} clips without a known speaker are left out")
        older = self.results.final.with_name(f".{self.results.final.name}.partial")
        if older.is_dir():
            say(
                f"{older}: holds an unfinished run of an earlier version, which this one cannot go on with; it stays as it is"
            )
        with self.results.held():
            self._features  # noqa: B018  (an unreadable clip is found before anything is trained)
            models = {job.name: digest_of(job.identity) for job in self.jobs}
            complete = self.results.complete()  # where an earlier run was cut off when all but the clearing was done
            if self.ranks.tell(self.options.resume and complete == models):
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

    def carry_out(self, render: Callable[[Finished, pd.DataFrame], None]) -> None:
        """All of an experiment: trains and tests every trial, writes the CSV files, has plots and ``table.md`` made, shows it.

        Args:
            render: Draws a finished run, with the paper's numbers for its variant.

        Raises:
            PartialError: if a model failed, or the drawing; whatever else is done is kept.
        """
        failure = ""
        with self.writing() as folder:
            if folder != self.results.final:
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
        pace = recording.pace(self._done) if self._done else {}
        if pace:  # else no method has an outer loop
            shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in pace.items())
            print(f"time per 100 epochs (meta-iterations): {shown}")
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

    def model_identity(self, trial: Trial) -> dict[str, Any]:
        """All that decides a model's numbers: other methods, targets and seeds do not. A stopped run goes on only where this is
        the same."""
        own = self.trials.alone(trial)
        settings = own.model_dump(mode="json")
        settings.pop("data_root")  # features tell what speech it is
        monitored = own.training.monitored
        settings["training"]["monitored"] = not monitored or trial.algorithm in monitored
        features = self.features(trial)
        users = {
            "own_code": methods.source_digest(own.algorithms[trial.algorithm].name),
            "own_labels": self.speech.own_labels,
        }
        tree = {
            "settings": settings,
            "targets": trial.targets,
            "features": {features.name: features.digest},
            "versions": {name: metadata.version(name) for name in ("metaser", "torch", "learn2learn", "numpy")},
            "device": self.device.type,
            **{key: digest for key, digest in users.items() if digest},
        }
        return json.loads(json.dumps(tree))

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
        groups = grouped(left, self.trials)
        processes = self._processes(len(groups))
        made = {"commit": self._provenance["commit"], "versions": self._provenance["versions"], "processes": processes}
        runner = Runner(self.trials, self._features, kept, self.options.every, made)
        profile = self.options.profile and self.ranks.first
        failures = train_all(runner, groups, processes, self.ranks, self.device, self.results.path, profile)
        if failures:
            folder, count = self.results.path, len(self.jobs)
            advice = f"{len(failures)} of {count} models failed; the same command tries only these again"
            if len(failures) < count:
                advice += f", and `metaser render {folder} {folder}` draws the others"
            raise PartialError([*(f"{title}: {reason}" for title, reason in failures.items()), advice])
        if self.ranks.first:
            self._done = [kept.find(job.name, job.identity) or {} for job in self.jobs]
            others = kept.others({job.name: job for job in self.jobs})
            if others:
                say(f"{self.results.path}: keeps {len(others)} finished models that are not of this run")

    def _processes(self, groups: int) -> int:
        """How many processes train models; 1 for this one alone."""
        return max(1, min(self._most, groups))

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
                     "absent": list(self.speech.absent),
                     "features_sha256": {one.name: one.digest for one in self._features.values()}},
            "ranks": self.ranks.count,
            **self._provenance,
        }  # fmt: skip
