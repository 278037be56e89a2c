"""The models of a run, one by one: which there are, and which clips each is trained and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaser.config import Experiment
from metaser.corpora.selection import Selection
from metaser.runtime.errors import UserError, nearest
from metaser.tasks import EpisodeSampler, Sampler, SplitSampler, TaskShape
from metaser.tasks.clips import held_out

#: What joins several domains to one name; no domain's own name holds it.
JOIN = "+"


@dataclass(frozen=True)
class Trial:
    """One model to train and test: everything but the settings that its protocol already decides.

    Attributes:
        target: The domain that it is tested on; several, joined by ``+``, where all have the same sources; none if empty.
        source: The domains that it is trained on, joined by ``+``, where they are given; else all others.
    """

    protocol: str
    algorithm: str
    target: str
    seed: int
    source: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """The domains that it is tested on, one by one."""
        return tuple(self.target.split(JOIN)) if self.target else ()


class Trials:
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
        self._samplers: dict[tuple[str, str, str, tuple[str, ...]], dict[str, Sampler]] = {}

    def all(self) -> list[Trial]:
        """Every protocol × sources × target × seed × algorithm; all targets at once where the sources are given.

        Algorithms take turns, so that whatever slows the machine for a while slows them alike. What needs a corpus that is
        not there is left out.
        """
        return [Trial(protocol, algorithm, target, seed, source)
                for protocol, settings in self.settings.items()
                for source in self.sets(settings)
                for target in ([JOIN.join(self.targets)] if source and self.targets else self.targets)
                for seed in settings.seeds
                for algorithm in settings.algorithms]  # fmt: skip

    def sets(self, settings: Experiment) -> list[str]:
        """The given sets of sources that are there, each joined by ``+``; an empty name where none is given."""
        there = [JOIN.join(names) for names in settings.data.sets if set(names) <= set(self.speech.domains)]
        return there if settings.data.sets else [""]

    def sources(self, trial: Trial) -> list[str]:
        """The domains that a trial's model is trained on."""
        chosen = trial.source.split(JOIN) if trial.source else self.speech.domains
        return [domain for domain in chosen if domain not in trial.targets]

    def sampler(
        self,
        trial: Trial,
        target: str = "",
        as_tested: bool = False,
        fraction: float = 1.0,
        classes: tuple[str, ...] = (),
    ) -> Sampler:
        """The test episodes of one of a trial's targets, or episodes of its sources when none is named.

        Args:
            trial: The trial.
            target: One of its targets.
            as_tested: Episodes of the sources, too, have the test's shape.
            fraction: Of the training part, where a test is a division of the target.
            classes: That they are of; those of the trial when empty.

        Raises:
            UserError: if a class has too few clips.
        """
        settings, test = self.settings[trial.protocol], self.settings[trial.protocol].evaluation
        tasks, table = settings.tasks, self.speech.table
        domains, part = ([target], "test") if target else (self.sources(trial), "train")
        classes = classes or (self.classes(trial, domains) if target else self.divided(trial)[0])
        if test.split and (target or as_tested):
            return SplitSampler(table, domains, classes, test.split.test, tasks.speakers, fraction)
        if target or as_tested:
            queries, least, fixed = test.queries, test.min_queries, test.fixed_queries
        else:
            queries, least, fixed = tasks.queries, tasks.queries, tasks.fixed_queries
        for tested in trial.targets if tasks.speakers == "disjoint" and not target else ():
            table = held_out(table, tested)
        shape = TaskShape(tasks.ways, tasks.shots, queries, least, tasks.fixed, fixed or queries, tasks.order,
                          tasks.speakers, tasks.fixed_shots)  # fmt: skip
        return EpisodeSampler(table, domains, classes, shape, part)

    def classes(self, trial: Trial, domains: Sequence[str]) -> tuple[str, ...]:
        """The classes that a support set can have: the settings', or all that these domains have, in alphabetical order."""
        named, table = self.settings[trial.protocol].data.emotions, self.speech.table
        return named or tuple(sorted(set(table.loc[table["domain"].isin(domains), "emotion"])))

    def divided(self, trial: Trial) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The sources' classes that a trial's training tasks are of, and those that its model is pre-trained on.

        Raises:
            UserError: if the settings name a class that is not there, or leave fewer than two to pre-train on.
        """
        every, chosen = self.classes(trial, self.sources(trial)), self._chosen(trial)
        key, others = f"algorithms.{trial.algorithm}.task_classes", tuple(name for name in every if name not in chosen)
        for name in chosen:
            if name not in every:
                raise UserError(f"{key}: no class {name!r} in the sources; {nearest(name, every)}")
        if len(others) < 2:
            raise UserError(f"{key}: leaves {len(others)} of {len(every)} classes to pre-train on, two are needed")
        return chosen or every, others

    def _chosen(self, trial: Trial) -> tuple[str, ...]:
        return self.settings[trial.protocol].algorithms[trial.algorithm].task_classes

    def pretrained(self, trial: Trial) -> Sampler:
        """A sampler of the clips that a trial's model is pre-trained on."""
        return self.sampler(trial, classes=self.divided(trial)[1]) if self._chosen(trial) else self.samplers(trial)[""]

    def samplers(self, trial: Trial) -> dict[str, Sampler]:
        """A trial's training episodes under the empty name, and its targets' test episodes under theirs.

        Raises:
            UserError: if a class has too few clips.
        """
        place = trial.protocol, trial.source, trial.target, self._chosen(trial)  # nothing else of a trial matters
        if place not in self._samplers:
            self._samplers[place] = {name: self.sampler(trial, name) for name in ("", *trial.targets)}
        return self._samplers[place]

    def of(self, trial: Trial) -> Experiment:
        """A trial's settings, with what its algorithm does its own way."""
        return self.settings[trial.protocol].of(trial.algorithm)

    def steps(self, trial: Trial) -> int:
        """How much work a trial is: meta-iterations and test tasks."""
        settings = self.of(trial)
        return settings.training.iterations + settings.evaluation.tasks * len(trial.targets)

    def alone(self, trial: Trial) -> Experiment:
        """The settings of a run that is of one trial only, with nothing in them that decides other models' numbers."""
        settings = self.settings[trial.protocol]
        sets = (tuple(trial.source.split(JOIN)),) if settings.data.source_sets else ()
        data = settings.data.model_copy(update={"targets": trial.targets, "source_sets": sets})
        own = {trial.algorithm: settings.algorithms[trial.algorithm]}
        return settings.model_copy(update={"algorithms": own, "compare": (), "seeds": (trial.seed,), "data": data})

    def keys(self, trial: Trial, target: str) -> dict[str, Any]:
        """The columns `metaser.reporting.results.KEYS` of a trial's numbers on a target, or on all of its targets."""
        settings = self.settings[trial.protocol]
        return {"experiment": settings.experiment, "variant": self.variant, "algorithm": trial.algorithm,
                "protocol": trial.protocol, "data": self.speech.kind, "source": JOIN.join(self.sources(trial)), "target": target,
                "shots": settings.tasks.shots}  # fmt: skip

    def corpus(self, domain: str) -> str:
        """The corpora that stand for a domain or several, joined by ``+``."""
        table = self.speech.table
        return JOIN.join(sorted(set(table.loc[table["domain"].isin(domain.split(JOIN)), "corpus"])))
