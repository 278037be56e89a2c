"""The one shape of every algorithm: adapt to tasks' support sets, and give these tasks' meta-gradient.

For every task of a meta-batch a clone of the learner adapts on the support set and yields a meta-gradient; the training
loop averages them and steps the outer optimiser. Algorithms differ in `Learner.meta_gradient` only. Those with an inner loop
are learn2learn's (`metaser.algorithms.inner`); a layout (`metaser.engine`) decides how many tasks go together.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config, engine
from metaser.algorithms.fitting import fit_once, keeping_head, linear_head, seed_of
from metaser.engine import Batch, Group, Outcome
from metaser.models import seeded
from metaser.runtime.errors import UserError
from metaser.tasks import Task
from metaser.tasks.dataset import floating


@dataclass(frozen=True)
class MetaGradient:
    """What a group of tasks contributes to a meta-iteration.

    Attributes:
        gradients: One descent direction per parameter of `Learner.parameters`, in their order and shapes, summed over
            the tasks.
        losses: ``(tasks,)``: mean cross-entropy, after adaptation, of the clips that the meta-gradient is of: the query
            set, or the support set where the algorithm has no use for a query set.
        accuracies: ``(tasks,)``: the share of these clips that is classified correctly.
    """

    gradients: tuple[torch.Tensor, ...]
    losses: list[float]
    accuracies: list[float]


@dataclass(frozen=True)
class Sources:
    """All clips that a model may be trained on.

    Attributes:
        x: ``(clips, coefficients, frames)``; bytes, where they are images (`metaser.tasks.dataset.floating`).
        emotions: One class name per clip.
        domains: One language or corpus per clip.
        classes: All classes, in the order of the outputs where it is fixed.
    """

    x: torch.Tensor
    emotions: list[str]
    domains: list[str]
    classes: tuple[str, ...] = ()


class Learner(ABC):
    """A network with a way to adapt it.

    Both methods leave the learner's own parameters alone and may be called from several threads at once.

    Args:
        model: The network; its parameters are what is meta-learned.
        settings: An instance of `Settings`.
        options: How the inner loop is laid out; see `metaser.engine`.
    """

    #: Whether an inner step scales all of a weight's gradient by one rate.
    one_rate = True
    #: What `finish` chose, by name, and what it was chosen for.
    chosen: Mapping[str, float] = MappingProxyType({})
    #: Seconds of pre-training that another model of this process had done for it.
    spared = 0.0
    #: Whether a task is adapted to step by step, so that one can ask how it goes with their number.
    stepwise = False
    #: Whether what it has learned is tensors, so that a model file can keep it.
    savable = True
    #: Its settings' class: what it can be told in ``config.yaml``, and nothing else.
    Settings: type[config.Algorithm] = config.Finetuned
    #: Whether it knows the fixed classes for good, and wants no clips of them.
    keeps_fixed = False

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        self.model = model
        self.settings = settings
        self.engine = engine.build(model, options or config.Engine(), low_rank=self.one_rate)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """θ, everything that the outer loop learns."""
        return self.model.parameters(recurse)

    def state(self) -> dict[str, torch.Tensor]:
        """What it has learned, by name, as a model file keeps it; ``….head.weight`` and ``….head.bias`` have a row per class."""
        return dict(self.model.named_parameters(prefix="model"))

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state` gave, of a learner of the same settings.

        Raises:
            ValueError: if a tensor is missing, one too many, or of another shape or type; nothing is taken over then.
        """
        own = self.state()
        if own.keys() != state.keys():
            raise ValueError(f"tensors differ: {', '.join(sorted(own.keys() ^ state.keys()))[:200]}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def prepare(self, sources: Sources) -> None:
        """Called once, before training, with all clips; pre-trains the network on them where the settings ask for it."""
        if not self.settings.fit("pretraining"):
            return
        labels = torch.tensor([sources.classes.index(name) for name in sources.emotions], device=sources.x.device)
        self.chosen = {f"epochs_{name}": self.pretrain(floating(sources.x[rows]), labels[rows], len(sources.classes),
                                                       seed_of(*self.parameters()))
                       for name, rows in self.stages(sources)}  # fmt: skip

    def stages(self, sources: Sources) -> Iterator[tuple[str, list[int]]]:
        """The parts of the sources that are pre-trained on, one after another: name and rows."""
        yield "all", list(range(len(sources.domains)))

    def pretrain(self, x: torch.Tensor, y: torch.Tensor, classes: int, seed: int) -> int:
        """Trains the network on some clips; the epoch whose weights were kept."""
        pretraining = self.settings.fit("pretraining")
        assert pretraining is not None, "it is asked only then"
        with keeping_head(self.model):
            with seeded(seed):
                self.model.head = self.read_out(classes).to(x)
            fitted, spared = fit_once(self.model, x, y, pretraining, seed)
        self.spared += spared
        return fitted.best

    def read_out(self, classes: int) -> nn.Module:
        """The last layer that pre-training on so many classes uses: the network's own, where it has as many outputs."""
        head = linear_head(self.model, "pretraining")
        return head if head.out_features == classes else nn.Linear(head.in_features, classes)

    def finish(self, task: Callable[[int], Task]) -> None:  # noqa: B027
        """Called once, after training, with tasks by number to choose by: of the sources, and of the test's shape."""

    @abstractmethod
    def meta_gradient(self, group: Group) -> MetaGradient:
        """The group's meta-gradient at the current parameters."""

    @abstractmethod
    def predict(self, task: Task) -> torch.Tensor:
        """Logits ``(queries, N+F)`` of the query set after adaptation."""

    def after(self, steps: int) -> Self:
        """The same learner, with so many steps when a task is tested; parameters are shared."""
        other = copy.copy(self)
        other.settings = self.settings.model_copy(update={"test_steps": steps})
        return other


class NonMetaLearner(Learner):
    """A method that is not trained on tasks: it learns from the sources' clips, and from a task's support set when it is tested."""

    def meta_gradient(self, group: Group) -> MetaGradient:
        """Refused.

        Raises:
            UserError: always; there is nothing that an outer loop could train.
        """
        raise UserError(f"{self.settings.name} is not trained on tasks; set its iterations: 0")


def report(gradients: tuple[torch.Tensor, ...], outcome: Outcome, batch: Batch) -> MetaGradient:
    """A meta-gradient with the losses and accuracies of an outcome."""
    losses = outcome.losses.detach().reshape(-1).tolist()
    hits = (outcome.logits.detach().argmax(dim=-1) == batch.y).reshape(len(losses), -1)
    return MetaGradient(gradients, losses, [count / hits.shape[1] for count in hits.sum(dim=1).tolist()])


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits ``(clips, outputs)`` against labels ``(clips,)``."""
    return F.cross_entropy(logits, labels)
