"""Many tasks at once: weights carry a leading dimension of tasks, and `torch.vmap` runs the network over it.

Made for a GPU, where a task alone is too little work for a launch. The layers compute by their ``plain`` route, which has
a batching rule for every operation and is right in second order however vmap and gradients are nested; torch 2.11's
fused batch normalisation is not (a test shows both).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.engine.base import Batch, Flat, Group, Outcome
from metaser.engine.task import TaskEngine
from metaser.tasks import Task

#: Tasks per group on a CPU, where several groups run on several threads; a GPU takes the whole meta-batch.
CPU_GROUP = 8


class Stacked(Flat):
    """A `Flat` module whose weights have a leading dimension of tasks, once it has begun with some.

    A loss summed over the tasks then has each task's own gradient in each task's own weights, so that learn2learn's
    ``adapt()`` takes one step in every task at once.

    Attributes:
        tasks: How many; 0 for the network's own weights, and clips of no task in particular.
        shared: Names of weights that stay without that dimension.
    """

    tasks = 0
    shared: frozenset[str] = frozenset()

    def begin(self, tasks: int) -> Self:
        """The start of so many tasks."""
        other = self.at([weight if name in self.shared else weight.expand(tasks, *weight.shape)
                         for name, weight in zip(self.names, self.weights(), strict=True)])  # fmt: skip
        other.tasks = tasks
        return other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(tasks, clips, outputs)`` of ``(tasks, clips, …)``; without tasks as `Flat`'s."""
        network = self.networks.own()

        def one(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
            return network(weights, x, "plain")

        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.lower):
            logits = torch.vmap(one)(self.weights(), x) if self.tasks else one(self.weights(), x)
        return logits.float() if self.lower else logits


class StackedEngine(TaskEngine):
    """Layout ``stacked``: learn2learn adapts a `Stacked` module; see `Engine` for the arguments."""

    module: Stacked

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        super().__init__(model, options)
        self.module = Stacked(model, options)

    def group_size(self, meta_batch: int) -> int:
        """The whole meta-batch on a GPU."""
        return meta_batch if next(self.model.parameters()).is_cuda else min(meta_batch, CPU_GROUP)

    def group(self, tasks: Sequence[Task]) -> Group:
        """The tasks, stacked."""
        support = Batch(self.stack([task.support_x for task in tasks]), torch.stack([task.support_y for task in tasks]))
        query = Batch(self.stack([task.query_x for task in tasks]), torch.stack([task.query_y for task in tasks]))
        return Group(tuple(tasks), support, query)

    def stack(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Each task's features as the module takes them: ``(tasks, clips, coefficients, frames)``."""
        return torch.stack(x)

    def begin(self, module: nn.Module, group: Group) -> nn.Module:
        """See `Engine.begin`."""
        assert isinstance(module, Stacked)
        return module.begin(len(group.tasks))

    def outcome(self, logits: torch.Tensor, batch: Batch) -> Outcome:
        """See `Engine.outcome`; logits are ``(tasks, clips, outputs)``."""
        logits = logits[..., : batch.outputs]
        losses = (
            F.cross_entropy(logits.flatten(0, 1), batch.y.flatten(), reduction="none").view(batch.y.shape).mean(dim=1)
        )
        return Outcome(losses.sum(), losses, logits)

    def over_tasks(self, gradient: torch.Tensor) -> torch.Tensor:
        """See `Engine.over_tasks`."""
        return gradient.sum(dim=0)
