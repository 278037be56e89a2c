"""The terms in which algorithms are written: weights, outcomes, slopes, steps."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.layers import Route, set_route
from metaser.tasks import Task

#: Where a group of tasks stands, one set of weights per task; only its engine looks inside.
Weights = Any
#: The gradient of a group's losses, each task's with respect to its own weights; only its engine looks inside.
Slopes = Any

T = TypeVar("T")


@dataclass(frozen=True)
class Clips:
    """Features and labels of a group's support or query sets, as its engine lays them out.

    Attributes:
        x: The features.
        y: The labels.
        outputs: The loss is over the first so many outputs only; over all when not given.
    """

    x: torch.Tensor
    y: torch.Tensor
    outputs: int | None = None


@dataclass(frozen=True)
class Group:
    """Tasks of one shape that are worked on together."""

    tasks: tuple[Task, ...]
    support: Clips
    query: Clips


@dataclass(frozen=True)
class Outcome:
    """What a network says at some weights.

    Attributes:
        loss: The sum over the tasks of each task's mean cross-entropy.
        losses: ``(tasks,)``, or one number for one task: the summands.
        logits: ``(tasks, clips, outputs)``, or ``(clips, outputs)`` for one task.
        trace: What the engine itself needs to differentiate.
    """

    loss: torch.Tensor
    losses: torch.Tensor
    logits: torch.Tensor
    trace: Any = None


class Engine(ABC):
    """Evaluates and differentiates a network at weights that are not its own; safe to call from several threads.

    Args:
        model: The network. Its parameters' values are read by `start` alone.
        options: See `metaser.config.Engine`.
    """

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        self.model, self.options = model, options
        self.names = [name for name, _ in model.named_parameters()]
        self._copies: WeakKeyDictionary[threading.Thread, Network] = WeakKeyDictionary()

    @abstractmethod
    def group_size(self, meta_batch: int) -> int:
        """How many of a meta-batch's tasks go into one group; it depends on nothing else, so neither do the bits."""

    @abstractmethod
    def group(self, tasks: Sequence[Task]) -> Group:
        """Tasks of one shape as a group."""

    @abstractmethod
    def start(self, parameters: Sequence[nn.Parameter]) -> Weights:
        """Weights at the parameters' values, to be differentiated with respect to.

        Args:
            parameters: Those of the network, in order; others may follow, and come back by `split`.
        """

    def split(self, weights: Weights) -> tuple[Weights, Weights]:
        """The network's own of what `start` gave, and the others."""
        return weights[: len(self.names)], weights[len(self.names) :]

    @abstractmethod
    def outcome(self, weights: Weights, clips: Clips, twice: bool = False) -> Outcome:
        """Loss and logits of the clips.

        Args:
            weights: Where.
            clips: A group's support or query.
            twice: Whether the loss's gradient is going to be differentiated through the network's layers.
        """

    @abstractmethod
    def slopes(self, outcome: Outcome, weights: Weights, adapted: Sequence[bool], keep: bool) -> Slopes:
        """The gradient of each task's loss.

        Args:
            outcome: Of the support set, at ``weights``.
            weights: Where.
            adapted: Per parameter of the network, whether it is wanted.
            keep: Keep the graph, so that the gradient can itself be differentiated.
        """

    @abstractmethod
    def step(self, weights: Weights, slopes: Slopes, rate: float | Weights, keep: bool) -> Weights:
        """``weights − rate · slopes``; with ``keep`` a differentiable function of both, else a new place to start from."""

    @abstractmethod
    def gradient(self, outcome: Outcome, weights: Weights) -> tuple[torch.Tensor, ...]:
        """The gradient of the loss with respect to ``weights``, summed over the tasks: one tensor per parameter."""

    @abstractmethod
    def total(self, slopes: Sequence[Slopes]) -> tuple[torch.Tensor, ...]:
        """Slopes summed over themselves and over the tasks: one tensor per parameter."""

    def network(self) -> Network:
        """This thread's own copy of the network."""
        thread = threading.current_thread()
        if thread not in self._copies:
            self._copies[thread] = Network(self.model)
        return self._copies[thread]


class Network:
    """A copy of a network that computes at whatever weights it is given.

    The same as `torch.func.functional_call` without its walk over the modules, which takes longer than a small layer.

    Args:
        model: What to copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model)
        self.slots = [(module, name) for module in self.module.modules() for name in module._parameters]
        self.own = [module._parameters[name] for module, name in self.slots]
        shared = len(self.slots) - len(list(self.module.parameters()))
        if shared or None in self.own:
            raise ValueError(
                f"{type(model).__name__}: parameters that modules share, or that are None, are not supported"
            )
        self.recurrent = [module for module in self.module.modules() if isinstance(module, nn.RNNBase)]
        self.route: Route = "native"

    def __call__(self, weights: Sequence[torch.Tensor], x: torch.Tensor, route: Route) -> torch.Tensor:
        """The network's answer at ``weights``, one per parameter and in their order."""
        if route != self.route:
            set_route(self.module, route)
            self.route = route
        try:
            self._fill(weights)
            return self.module(x)
        finally:  # no graph is held beyond the call
            self._fill(self.own)

    def _fill(self, weights: Sequence[torch.Tensor | None]) -> None:
        for (module, name), weight in zip(self.slots, weights, strict=True):
            module._parameters[name] = weight  # type: ignore[assignment]
        for module in self.recurrent:
            module._flat_weights = [module._parameters[name] for name in module._flat_weights_names]


def mean_losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``(tasks,)``: the mean cross-entropy of each task, from ``(tasks, clips, outputs)`` and ``(tasks, clips)``."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(dim=1)
