"""The work on one model of a run: trained on its sources, tested on its targets, everything recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from metaser import models
from metaser.algorithms.base import Learner, NonMetaLearner, Sources
from metaser.algorithms.fmaml import FixedClasses
from metaser.experiment.trials import Trial, Trials
from metaser.features import FeatureSet, normalise
from metaser.reporting.results import KEYS
from metaser.runtime.errors import DivergedError, UserError
from metaser.runtime.parallel import Workers
from metaser.runtime.sealed import digest
from metaser.tasks import Sampler, SpeechTasks
from metaser.training import learners, methods, train
from metaser.training.checkpoint import Checkpoints
from metaser.training.evaluation import Scores, evaluate, mean_interval

#: The metrics of the test curve, of those that there are.
MONITORED = ("loss", "accuracy", "accuracy_emotions", "macro_f1")

#: From the initial weights' seed of one member of an ensemble to the next's.
MEMBER = 1_000_003


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave, as JSON keeps it: rows of ``metrics.csv``, scores per test task, counts, time, what was
    chosen on the sources, and the weights' digest."""

    rows: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    seconds: dict[str, Any]
    chosen: dict[str, float]
    weights_sha256: str


class TrialRun:
    """One model and all that is seen of it.

    Args:
        trials: The run's.
        trial: Which.
        features: Of all clips, normalised as the trial's settings say; on the device that is to compute.
        workers: The threads.
    """

    def __init__(self, trials: Trials, trial: Trial, features: FeatureSet, workers: Workers) -> None:
        self.trials, self.trial, self.features, self.workers = trials, trial, features, workers
        self.settings, self.samplers = trials.of(trial), trials.samplers(trial)
        self.algorithm = self.settings.algorithms[trial.algorithm]
        monitored = self.settings.training.monitored
        self.monitors = {target: self.stream("monitor", self.samplers[target])
                         for target in trial.targets if not monitored or trial.algorithm in monitored}  # fmt: skip
        self.learner = self.build()
        self.rows: list[dict[str, Any]] = []
        self.scores: list[dict[Any, Any]] = []
        self.confusion: list[dict[Any, Any]] = []

    def carry_out(self, tick: Callable[[int], None], kept: Path, every: int) -> TrialResult:
        """Trains and tests it.

        Args:
            tick: Called after every meta-iteration with its number.
            kept: Where its checkpoints are.
            every: As in `metaser.training.checkpoint.Checkpoints`.

        Raises:
            DivergedError: if it diverges and the settings call that a mistake.
        """
        trial, iterations, seconds = self.trial, self.settings.training.iterations, [math.nan]  # none where it diverges
        try:
            seconds = self.train(tick, Checkpoints(kept, self.rows, every))
            for target in trial.targets:
                self.test(target)
        except DivergedError as error:
            if self.settings.training.divergence == "error":
                raise
            self.scores, self.confusion = [], []
            self.add(trial.target, "train", error.iteration, {"diverged": [1.0]})
        weights = {f"{n:04}": p.detach().cpu() for n, p in enumerate(self.learner.parameters())}
        return TrialResult(
            rows=self.rows,
            scores=self.scores,
            confusion=self.confusion,
            seconds={**self.keys(trial.target), "corpus": self.trials.corpus(trial.target),
                     "seconds_per_100_epochs": 100 * seconds[0] / (iterations or math.nan),
                     "seconds_to_train": sum(seconds)},
            chosen=dict(self.learner.chosen),
            weights_sha256=digest(weights, ""),
        )  # fmt: skip

    def train(self, tick: Callable[[int], None], keeper: Checkpoints) -> list[float]:
        """Trains it; the seconds that the outer loop took, and those before and after it, as if it had been alone."""
        began = time.perf_counter()
        self.learner.prepare(self.sources())
        before = time.perf_counter() - began + self.learner.spared
        tasks = self.stream("train", self.samplers[""])
        within = train(
            self.learner, tasks, self.settings.training, self.workers, self.record, self.monitor, tick, keeper
        )
        began = time.perf_counter()
        self.learner.finish(lambda number: self.choice.task(0, number))
        return [within, before, time.perf_counter() - began]

    def test(self, target: str) -> None:
        """Tests it on a target, and draws its curves over inner steps and over fractions of what it adapts on.

        Raises:
            DivergedError: if adapting to a task diverges.
        """
        settings, trial = self.settings, self.trial
        seen = self.ask(self.learner, self.stream("test", self.samplers[target]), settings.evaluation.tasks)
        if not all(map(math.isfinite, seen.tasks["loss"])):
            raise DivergedError(f"{trial.algorithm}, {target}, seed {trial.seed}: adapting to a test task diverged; "
                                f"lower algorithms.{trial.algorithm}.inner_lr", settings.training.iterations)  # fmt: skip
        for steps in settings.evaluation.steps if self.learner.stepwise and target in self.monitors else ():
            self.look(self.learner.after(steps), target, "steps", steps)
        for share in (
            settings.evaluation.split.fractions if settings.evaluation.split and target in self.monitors else ()
        ):
            part = self.stream("test", self.trials.sampler(trial, target, fraction=share))
            self.look(self.learner, target, "fraction", round(100 * share), part)
        tested = {str(name): list(values.dropna()) for name, values in seen.tasks.items()}
        self.add(target, "test", settings.training.iterations, tested)
        corpus = self.trials.corpus(target)
        self.scores += [{**self.keys(target), "corpus": corpus, "task": task, **row}
                        for task, row in enumerate(seen.tasks.to_dict("records"))]  # fmt: skip
        if seen.confusion.empty:
            return
        counts = seen.confusion.rename_axis("true").reset_index()
        counts = counts.melt("true", var_name="predicted", value_name="count").assign(**self.keys(target))
        self.confusion += counts[[*KEYS, "seed", "true", "predicted", "count"]].to_dict("records")

    def record(self, iteration: int, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        """A point of the training curve."""
        self.add(self.trial.target, "train", iteration, {"loss": losses, "accuracy": accuracies})

    def monitor(self, iteration: int) -> None:
        """A point of every target's test curve."""
        for target in self.monitors:
            self.look(self.learner, target, "monitor", iteration)

    def look(self, learner: Learner, target: str, split: str, iteration: int, tasks: SpeechTasks | None = None) -> None:
        """Tests a learner on a few tasks, for a curve."""
        seen = self.ask(learner, tasks or self.monitors[target], self.settings.training.monitor_tasks).tasks
        self.add(target, split, iteration, {name: list(seen[name]) for name in MONITORED if name in seen})

    def ask(self, learner: Learner, tasks: SpeechTasks, count: int) -> Scores:
        """Scores of the first tasks of a stream, with those of single classes where all tasks have the same ones."""
        return evaluate(learner, tasks, count, self.workers, by_class=bool(self.settings.data.emotions))

    def add(self, target: str, split: str, iteration: int, values: Mapping[str, Sequence[float]]) -> None:
        """A row per metric; none where one of its values is not finite."""
        self.rows.extend({**self.keys(target), "split": split, "iteration": iteration, "metric": metric, "n_tasks": len(column),
                          **dict(zip(("mean", "ci95"), mean_interval(column), strict=True))}
                         for metric, column in values.items() if column and all(map(math.isfinite, column)))  # fmt: skip

    def keys(self, target: str) -> dict[str, Any]:
        """What identifies its numbers on a target."""
        return {**self.trials.keys(self.trial, target), "seed": self.trial.seed}

    def build(self) -> Learner:
        """The learner, with weights drawn by the seed.

        Raises:
            UserError: if the settings do not go together.
        """
        name = self.algorithm.name
        if self.settings.training.iterations and issubclass(methods.kind(name), NonMetaLearner):
            raise UserError(f"algorithms.{self.trial.algorithm}: {name} is not trained on tasks; set its iterations: 0")
        settings, (height, width) = self.settings, self.features.x.shape[1:]
        own = settings.tasks.order == "own"
        outputs = (len(self.samplers[""].emotions) if own else settings.tasks.ways) + len(settings.tasks.fixed)
        networks = [models.build(settings.model.name, (height, width), outputs, self.trial.seed + MEMBER * member)
                    for member in range(self.algorithm.ensemble)]  # fmt: skip
        return learners.build(
            self.algorithm, [network.to(self.features.x.device) for network in networks], settings.engine
        )

    def stream(self, name: str, sampler: Sampler) -> SpeechTasks:
        """Tasks as the algorithm sees them."""
        fixed = FixedClasses(self.settings.tasks.fixed, in_support=self.algorithm.fixed_support)
        return SpeechTasks(self.features.x, list(self.features.table["emotion"]), sampler, self.trial.seed, name,
                           order=self.settings.tasks.order, by_support=self.by_support, speakers=self.speakers,
                           task_transforms=[fixed])  # fmt: skip

    @cached_property
    def speakers(self) -> list[str]:
        """Who speaks in each clip."""
        return list(self.features.table["corpus"] + "/" + self.features.table["speaker"])

    @cached_property
    def choice(self) -> SpeechTasks:
        """Tasks of the sources to choose by; few learners ask for them, and a source may be too small for them."""
        return self.stream("choice", self.trials.sampler(self.trial, as_tested=True))

    @property
    def by_support(self) -> bool:
        """Whether every task is normalised by its own support set."""
        return self.settings.features.normalise == "support"

    def sources(self) -> Sources:
        """All the clips that it is pre-trained on; where support sets normalise tasks, normalised by language."""
        sampler = self.trials.pretrained(self.trial)
        found = [(domain, name, int(row)) for domain, classes in sampler.clips.items()
                 for name, clips in classes.items() for row in clips.rows]  # fmt: skip
        domains, emotions, rows = (list(column) for column in zip(*found, strict=True))
        features = normalise(self.features, "language") if self.by_support else self.features
        classes = (*sampler.emotions, *self.settings.tasks.fixed)
        return Sources(features.x[rows], emotions, domains, classes)
