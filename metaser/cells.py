"""The models of a run, one by one: which there are, what each is trained and tested on, and the work itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from metaser import learners, models
from metaser.algorithms.base import Sources
from metaser.checkpoint import Checkpoints, digest
from metaser.config import Experiment
from metaser.corpora.selection import Selection
from metaser.errors import DivergedError
from metaser.evaluation import evaluate, mean_interval
from metaser.features import FeatureSet, normalise
from metaser.parallel import Workers
from metaser.reporting.results import KEYS
from metaser.tasks import EpisodeSampler, SpeechTasks, TaskShape
from metaser.tasks.sampler import held_out
from metaser.training import train

#: The metrics of the test curve.
MONITORED = ("loss", "accuracy", "accuracy_emotions", "macro_f1")

#: From the initial weights' seed of one member of an ensemble to the next's.
MEMBER = 1_000_003

#: What joins several domains to one name; no domain's own name holds it.
JOIN = "+"


@dataclass(frozen=True)
class Cell:
    """One model to train and test: everything but the settings that its protocol already decides.

    Attributes:
        target: The domain that it is tested on; several, joined by ``+``, where all have the same sources.
    """

    protocol: str
    algorithm: str
    target: str
    seed: int

    @property
    def targets(self) -> tuple[str, ...]:
        """The domains that it is tested on, one by one."""
        return tuple(self.target.split(JOIN))


@dataclass(frozen=True)
class CellResult:
    """What a cell gave, as JSON keeps it: rows of ``metrics.csv``, scores per test task, counts, time, what was
    chosen on the sources, and the weights' digest."""

    rows: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    seconds: dict[str, Any]
    chosen: dict[str, float]
    weights_sha256: str


class Cells:
    """All models of a run.

    Args:
        settings: Per protocol.
        speech: The clips.
        targets: The domains to test on.
        variant: What results call the variant.
    """

    def __init__(
        self, settings: Mapping[str, Experiment], speech: Selection, targets: Sequence[str], variant: str
    ) -> None:
        self.settings, self.speech, self.targets, self.variant = settings, speech, tuple(targets), variant
        self._samplers: dict[tuple[str, str], dict[str, EpisodeSampler]] = {}

    def all(self) -> list[Cell]:
        """Every protocol × target × seed × algorithm; all targets at once where the sources are given.

        Algorithms take turns, so that whatever slows the machine for a while slows them alike.
        """
        return [Cell(protocol, algorithm, target, seed)
                for protocol, settings in self.settings.items()
                for target in ([JOIN.join(self.targets)] if settings.data.sources else self.targets)
                for seed in settings.seeds
                for algorithm in settings.algorithms]  # fmt: skip

    def sources(self, cell: Cell) -> list[str]:
        """The domains that a cell's model is trained on."""
        chosen = self.settings[cell.protocol].data.sources or self.speech.domains
        return [domain for domain in chosen if domain not in cell.targets]

    def sampler(self, cell: Cell, target: str = "", as_tested: bool = False) -> EpisodeSampler:
        """The test episodes of one of a cell's targets, or episodes of its sources when none is named.

        Args:
            cell: The cell.
            target: One of its targets.
            as_tested: Episodes of the sources, too, have the test's number of queries.

        Raises:
            UserError: if a class has too few clips.
        """
        settings, test = self.settings[cell.protocol], self.settings[cell.protocol].evaluation
        tasks, table = settings.tasks, self.speech.table
        if target or as_tested:
            queries, least, fixed = test.queries, test.min_queries, test.fixed_queries
        else:
            queries, least, fixed = tasks.queries, tasks.queries, tasks.fixed_queries
        for tested in cell.targets if tasks.speakers == "disjoint" and not target else ():
            table = held_out(table, tested)
        shape = TaskShape(tasks.ways, tasks.shots, queries, least, tasks.fixed, fixed or queries, tasks.order,
                          tasks.speakers, tasks.fixed_shots)  # fmt: skip
        domains, part = ([target], "test") if target else (self.sources(cell), "train")
        return EpisodeSampler(table, domains, settings.data.emotions, shape, part)

    def samplers(self, cell: Cell) -> dict[str, EpisodeSampler]:
        """A cell's training episodes under the empty name, and its targets' test episodes under theirs.

        Raises:
            UserError: if a class has too few clips.
        """
        place = cell.protocol, cell.target  # neither algorithm nor seed matters
        if place not in self._samplers:
            self._samplers[place] = {name: self.sampler(cell, name) for name in ("", *cell.targets)}
        return self._samplers[place]

    def work(
        self, cell: Cell, features: FeatureSet, workers: Workers, tick: Callable[[int], None], kept: Path, every: int
    ) -> dict[str, Any]:
        """Trains one model on its sources and tests it on its targets; the fields of a `CellResult`.

        Args:
            cell: Which.
            features: Of all clips, normalised as the cell's protocol says; on the device that is to compute.
            workers: The threads.
            tick: Called after every meta-iteration with its number.
            kept: Where its checkpoints are.
            every: As in `metaser.checkpoint.Checkpoints`.

        Raises:
            DivergedError: if it diverges and the settings call that a mistake.
        """
        settings, algorithm = self.of(cell), self.settings[cell.protocol].algorithms[cell.algorithm]
        emotions, samplers = list(features.table["emotion"]), self.samplers(cell)

        def stream(name: str, sampler: EpisodeSampler) -> SpeechTasks:
            return SpeechTasks(features.x, emotions, sampler, cell.seed, name,
                               ordered=settings.tasks.order == "fixed", fixed_support=algorithm.fixed_support,
                               by_support=by_support)  # fmt: skip

        outputs = settings.tasks.ways + len(settings.tasks.fixed)
        height, width = features.x.shape[1:]
        networks = [models.build(settings.model.name, (height, width), outputs, cell.seed + MEMBER * member)
                    for member in range(algorithm.ensemble)]  # fmt: skip
        learner = learners.build(algorithm, [network.to(features.x.device) for network in networks], settings.engine)
        by_support = settings.features.normalise == "support"
        began = time.perf_counter()
        learner.prepare(self.clips(samplers[""], features, by_support))
        around = time.perf_counter() - began  # what of the training is outside the loop
        rows: list[dict[str, Any]] = []

        def add(target: str, split: str, iteration: int, values: Mapping[str, Sequence[float]]) -> None:
            """A row per metric; none where a curve has left the numbers."""
            rows.extend({**self.keys(cell, target), "seed": cell.seed, "split": split, "iteration": iteration,
                         "metric": metric, "n_tasks": len(column),
                         **dict(zip(("mean", "ci95"), mean_interval(column), strict=True))}
                        for metric, column in values.items() if column and all(map(math.isfinite, column)))  # fmt: skip

        def record(iteration: int, losses: Sequence[float], accuracies: Sequence[float]) -> None:
            add(cell.target, "train", iteration, {"loss": losses, "accuracy": accuracies})

        @lru_cache(maxsize=1)
        def choice() -> SpeechTasks:  # few learners ask for it, and a source may be too small for it
            return stream("choice", self.sampler(cell, as_tested=True))

        monitors = {target: stream("monitor", samplers[target]) for target in cell.targets}

        def monitor(iteration: int) -> None:
            for target, tasks in monitors.items():
                seen = evaluate(learner, tasks, settings.training.monitor_tasks, workers).tasks
                add(target, "monitor", iteration, {name: list(seen[name]) for name in MONITORED})

        keeper = Checkpoints(kept, rows, every)
        scores, confusion, seconds = [], [], math.nan
        try:
            seconds = train(
                learner, stream("train", samplers[""]), settings.training, workers, record, monitor, tick, keeper
            )
            began = time.perf_counter()
            learner.finish(lambda number: choice().task(0, number))
            around += time.perf_counter() - began
            for target in cell.targets:
                seen = evaluate(learner, stream("test", samplers[target]), settings.evaluation.tasks, workers)
                if not all(map(math.isfinite, seen.tasks["loss"])):
                    raise DivergedError(f"{cell.algorithm}, {target}, seed {cell.seed}: adapting to a test task diverged; "
                                        f"lower algorithms.{cell.algorithm}.inner_lr", settings.training.iterations)  # fmt: skip
                for steps in settings.evaluation.steps if learner.stepwise else ():
                    curve = evaluate(
                        learner.after(steps), monitors[target], settings.training.monitor_tasks, workers
                    ).tasks
                    add(target, "steps", steps, {name: list(curve[name]) for name in MONITORED})
                tested = {str(name): list(values.dropna()) for name, values in seen.tasks.items()}
                add(target, "test", settings.training.iterations, tested)
                own = {**self.keys(cell, target), "seed": cell.seed}
                scores += [{**own, "corpus": self.corpus(target), "task": task, **row}
                           for task, row in enumerate(seen.tasks.to_dict("records"))]  # fmt: skip
                counts = seen.confusion.rename_axis("true").reset_index()
                counts = counts.melt("true", var_name="predicted", value_name="count").assign(**own)
                confusion += counts[[*KEYS, "seed", "true", "predicted", "count"]].to_dict("records")
        except DivergedError as error:
            if settings.training.divergence == "error":
                raise
            scores, confusion = [], []
            add(cell.target, "train", error.iteration, {"diverged": [1.0]})
        return {
            "rows": rows,
            "scores": scores,
            "confusion": confusion,
            "seconds": {**self.keys(cell, cell.target), "seed": cell.seed, "corpus": self.corpus(cell.target),
                        "seconds_per_100_epochs": 100 * seconds / (settings.training.iterations or math.nan),
                        "seconds_to_train": around + seconds},
            "chosen": dict(learner.chosen),
            "weights_sha256": digest({f"{n:04}": p.detach().cpu() for n, p in enumerate(learner.parameters())}, ""),
        }  # fmt: skip

    def of(self, cell: Cell) -> Experiment:
        """A cell's settings, with what its algorithm does its own way."""
        return self.settings[cell.protocol].of(cell.algorithm)

    def clips(self, sampler: EpisodeSampler, features: FeatureSet, by_language: bool) -> Sources:
        """All the clips that training episodes can have; those of tasks that their support sets normalise, by language."""
        found = [(domain, name, int(row)) for domain, classes in sampler.clips.items()
                 for name, clips in classes.items() for row in clips.rows]  # fmt: skip
        domains, emotions, rows = (list(column) for column in zip(*found, strict=True))
        features = normalise(features, "language") if by_language else features
        return Sources(features.x[rows], emotions, domains)

    def keys(self, cell: Cell, target: str) -> dict[str, Any]:
        """The columns `metaser.reporting.results.KEYS` of a cell's numbers on a target, or on all of its targets."""
        settings = self.settings[cell.protocol]
        return {"experiment": settings.experiment, "variant": self.variant, "algorithm": cell.algorithm,
                "protocol": cell.protocol, "data": self.speech.kind, "source": JOIN.join(self.sources(cell)), "target": target,
                "shots": settings.tasks.shots}  # fmt: skip

    def corpus(self, domain: str) -> str:
        """The corpora that stand for a domain or several, joined by ``+``."""
        table = self.speech.table
        return JOIN.join(sorted(set(table.loc[table["domain"].isin(domain.split(JOIN)), "corpus"])))
