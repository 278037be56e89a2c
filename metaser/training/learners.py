"""Learners around a network, or around several; fine-tuned by inner steps, or by mini-batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.utils import skip_init

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, Sources
from metaser.algorithms.fitting import fit, linear_head, seed_of
from metaser.engine import Group
from metaser.tasks import Task
from metaser.training import methods


def build(settings: config.Algorithm, models: Sequence[nn.Module], options: config.Engine | None = None) -> Learner:
    """The learner that the settings name, around its network; around several, their `Ensemble`.

    Raises:
        UserError: if there is no such algorithm, or it does not go with the engine's options.
    """
    chosen = methods.kind(settings.name)
    members = [chosen(model, settings, options) for model in models]
    if tuning := settings.fit("tuning"):
        members = [Tuned(member, tuning) for member in members]
    return members[0] if len(members) == 1 else Ensemble(members)


class Ensemble(Learner):
    """Learners of one kind from different initial weights, trained on the same tasks; their probabilities are averaged.

    Args:
        members: Two or more.
    """

    def __init__(self, members: Sequence[Learner]) -> None:
        self.members = tuple(members)
        self.model, self.settings, self.engine = members[0].model, members[0].settings, members[0].engine
        self.stepwise, self.savable = members[0].stepwise, members[0].savable

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those of one member after another."""
        return (parameter for member in self.members for parameter in member.parameters())

    def state(self) -> dict[str, torch.Tensor]:
        """Every member's, by its number."""
        return {f"{number}.{name}": tensor for number, member in enumerate(self.members)
                for name, tensor in member.state().items()}  # fmt: skip

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Learner.restore`."""
        for number, member in enumerate(self.members):
            own = f"{number}."
            member.restore({name.removeprefix(own): tensor for name, tensor in state.items() if name.startswith(own)})

    def prepare(self, sources: Sources) -> None:
        """Prepares each."""
        for member in self.members:
            member.prepare(sources)
        self.spared = sum(member.spared for member in self.members)

    def finish(self, task: Callable[[int], Task]) -> None:
        """Finishes each."""
        for member in self.members:
            member.finish(task)
        self.chosen = {f"{number}.{name}": value for number, member in enumerate(self.members)
                       for name, value in member.chosen.items()}  # fmt: skip

    def meta_gradient(self, group: Group) -> MetaGradient:
        """Each member's own; losses and accuracies are the members' means."""
        found = [member.meta_gradient(group) for member in self.members]
        losses, accuracies = ([sum(values) / len(found) for values in zip(*column, strict=True)]
                              for column in ([one.losses for one in found], [one.accuracies for one in found]))  # fmt: skip
        return MetaGradient(tuple(gradient for one in found for gradient in one.gradients), losses, accuracies)

    def after(self, steps: int) -> Ensemble:
        """See `Learner.after`."""
        return Ensemble([member.after(steps) for member in self.members])

    def predict(self, task: Task) -> torch.Tensor:
        """The logarithm ``(queries, N+F)`` of the mean of the members' probabilities."""
        spread = torch.stack([member.predict(task).log_softmax(dim=1) for member in self.members])
        return spread.logsumexp(dim=0) - math.log(len(self.members))


class Tuned(Learner):
    """A learner whose network is fine-tuned to a task by mini-batches of its support set, instead of by inner steps.

    Args:
        learner: How it is trained.
        tuning: How it is fine-tuned.
    """

    def __init__(self, learner: Learner, tuning: config.Fit) -> None:
        self.learner, self.tuning = learner, tuning
        self.model, self.settings, self.engine = learner.model, learner.settings, learner.engine
        self.savable = learner.savable

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The learner's."""
        return self.learner.parameters()

    def state(self) -> dict[str, torch.Tensor]:
        """The learner's."""
        return self.learner.state()

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Learner.restore`."""
        self.learner.restore(state)

    def prepare(self, sources: Sources) -> None:
        """Prepares the learner."""
        self.learner.prepare(sources)
        self.chosen, self.spared = self.learner.chosen, self.learner.spared

    def finish(self, task: Callable[[int], Task]) -> None:
        """Finishes the learner."""
        self.learner.finish(task)
        self.chosen = self.learner.chosen

    def meta_gradient(self, group: Group) -> MetaGradient:
        """The learner's."""
        return self.learner.meta_gradient(group)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits ``(queries, N)`` of a fine-tuned copy; where the query set is of new speakers, so are held-out clips."""
        network = copy.deepcopy(self.model)
        if self.tuning.head == "fresh" and len(task.classes) != (old := linear_head(network, "fresh")).out_features:
            network.head = skip_init(nn.Linear, old.in_features, len(task.classes)).to(old.weight)
        speakers = task.support_speakers if task.new_speakers else ()
        seed = seed_of(*self.parameters(), task.support_index)
        fit(network, task.support_x, task.support_y, self.tuning, seed, speakers)
        with torch.no_grad():
            return network(task.query_x)
