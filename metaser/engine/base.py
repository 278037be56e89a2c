"""What the layouts have in common: the module that learn2learn clones and adapts, and the tasks as it is to see them."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.engine.layers import Route, set_route
from metaser.tasks import Task

#: A network's weights, or what a gradient holds for them: one tensor per parameter, in the network's order and shapes (or with
#: a leading dimension of tasks).
Weights = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """The support or query sets of a group's tasks, as its layout has them.

    Attributes:
        x: Features: ``(clips, coefficients, frames)`` of one task, ``(tasks, clips, coefficients, frames)`` stacked,
            ``(clips, tasks, features)`` for layout ``low-rank``.
        y: Labels: ``(clips,)``, or ``(tasks, clips)``.
        outputs: The loss is over the first so many outputs only; over all when not given.
    """

    x: torch.Tensor
    y: torch.Tensor
    outputs: int | None = None


@dataclass(frozen=True)
class Group:
    """Tasks of one shape that are worked on together."""

    tasks: tuple[Task, ...]
    support: Batch
    query: Batch


@dataclass(frozen=True)
class Outcome:
    """What a network says about clips.

    Attributes:
        loss: The sum over the tasks of each task's mean cross-entropy.
        losses: ``(tasks,)``, or one number for one task: the summands.
        logits: ``(tasks, clips, outputs)``, or ``(clips, outputs)`` for one task.
    """

    loss: torch.Tensor
    losses: torch.Tensor
    logits: torch.Tensor


class Adapting(Protocol):
    """A learner whose module changes as it adapts."""

    module: nn.Module


class Engine(ABC):
    """A layout: it puts a network into the module that learn2learn's ``clone()`` and ``adapt()`` work on.

    Args:
        model: The network.
        options: See `metaser.config.Engine`.

    Attributes:
        module: The module. Its parameters are the network's own, and have their names.
    """

    module: nn.Module

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        self.model, self.options = model, options

    def group_size(self, meta_batch: int) -> int:
        """How many of a meta-batch's tasks go into one group; it depends on nothing else, so neither do the bits."""
        return 1

    def group(self, tasks: Sequence[Task]) -> Group:
        """Tasks of one shape as a group; here one task, as it is."""
        (task,) = tasks
        return Group((task,), Batch(task.support_x, task.support_y), Batch(task.query_x, task.query_y))

    def begin(self, module: nn.Module, group: Group) -> nn.Module:
        """The module as a group's tasks find it, each with weights of its own; the same where a task goes alone."""
        return module

    @abstractmethod
    def part(self, module: nn.Module, chosen: Callable[[str], bool]) -> nn.Module:
        """The same function as a module whose inner loop changes only the parameters of the chosen names."""

    def twice(self, module: nn.Module, wanted: bool) -> None:  # noqa: B027
        """Says whether the gradient of what ``module`` computes next is going to be differentiated through its layers."""

    def outcome(self, logits: torch.Tensor, batch: Batch) -> Outcome:
        """The loss of what the module said about a batch."""
        logits = logits[:, : batch.outputs]
        loss = F.cross_entropy(logits, batch.y)
        return Outcome(loss, loss, logits)

    @contextmanager
    def summing(self, learner: Adapting, total: Weights) -> Iterator[None]:
        """Adds the gradients that an inner step in this block goes by to ``total``, one tensor per parameter."""

        def add(to: torch.Tensor, gradient: torch.Tensor) -> None:
            to += self.over_tasks(gradient)

        handles = [weight.register_hook(partial(add, to))  # type: ignore[no-untyped-call]
                   for weight, to in zip(learner.module.parameters(), total, strict=True)]  # fmt: skip
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def over_tasks(self, gradient: torch.Tensor) -> torch.Tensor:
        """A weight's gradient, summed over the tasks."""
        return gradient


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

    def __call__(self, weights: Weights, x: torch.Tensor, route: Route) -> torch.Tensor:
        """The network's answer at ``weights``, one per parameter and in their order."""
        if route != self.route:
            set_route(self.module, route)
            self.route = route
        try:
            self._fill(weights)
            answer: torch.Tensor = self.module(x)
            return answer
        finally:  # no graph is held beyond the call
            self._fill(self.own)

    def _fill(self, weights: Sequence[torch.Tensor | None]) -> None:
        for (module, name), weight in zip(self.slots, weights, strict=True):
            module._parameters[name] = weight  # type: ignore[assignment]
        for module in self.recurrent:
            module._flat_weights = [module._parameters[name] for name in module._flat_weights_names]


class Networks:
    """A `Network` for every thread that asks; pickled and copied without them.

    Args:
        model: What they are copies of.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._copies: WeakKeyDictionary[threading.Thread, Network] = WeakKeyDictionary()

    def own(self) -> Network:
        """This thread's."""
        thread = threading.current_thread()
        if thread not in self._copies:
            self._copies[thread] = Network(self.model)
        return self._copies[thread]

    def __reduce__(self) -> tuple[type[Networks], tuple[nn.Module]]:
        return Networks, (self.model,)


class Flat(nn.Module):
    """A network's parameters in one flat list, and its function of them.

    learn2learn clones and updates a module by a walk over all of its parts; this one has none. The network that computes is
    a copy for each thread (`Networks`), given the weights call by call.

    Args:
        model: The network.
        options: See `metaser.config.Engine`.

    Attributes:
        twice: Whether the gradient of the next answers is going to be differentiated through the network's layers.
    """

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        super().__init__()
        self._parameters.update(model.named_parameters())
        self.names = tuple(self._parameters)
        self.networks, self.lower, self.twice = Networks(model), options.precision == "bfloat16", False
        self.fixed: dict[str, torch.Tensor] = {}

    def weights(self) -> list[torch.Tensor]:
        """All weights in the network's order, those that the inner loop does not change included."""
        if not self.fixed:
            return list(self._parameters.values())  # type: ignore[arg-type]
        return [self.fixed[name] if name in self.fixed else self._parameters[name] for name in self.names]  # type: ignore[misc]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of clips ``(clips, …)``."""
        route: Route = "twice" if self.twice else "native"
        if not self.lower:
            return self.networks.own()(self.weights(), x, route)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.networks.own()(self.weights(), x, route).float()

    def at(self, weights: Weights) -> Self:
        """The same function at other weights, one for each of its parameters."""
        kind = type(self)
        other = kind.__new__(kind)
        other.__dict__.update(self.__dict__, _parameters=dict(zip(self._parameters, weights, strict=True)))
        return other

    def part(self, chosen: Callable[[str], bool]) -> Self:
        """See `Engine.part`."""
        other = copy.copy(self)
        own = dict(self._parameters)
        other.__dict__["_parameters"] = {name: weight for name, weight in own.items() if chosen(name)}
        other.fixed = {name: weight for name, weight in own.items() if weight is not None and not chosen(name)}
        return other

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):  # type: ignore[no-untyped-def]
        """As torch's own, which takes a dot in a name for a module's."""
        super()._load_from_state_dict(state_dict, prefix, metadata, False, missing, unexpected, errors)
        own = [prefix + name for name in self._parameters]
        missing += [key for key in own if key not in state_dict]
        unexpected += [key for key in state_dict if key.startswith(prefix) and key not in own]
