"""Many tasks at once: weights carry a leading dimension of tasks, and `torch.vmap` runs the network over it.

Made for a GPU, where a task alone is too little work for a launch. The layers compute by their ``plain`` route, which has
a batching rule for every operation and is right in second order however vmap and gradients are nested; torch 2.11's
fused batch normalisation is not (a test shows both).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from metaser.engine.base import Clips, Engine, Group, Outcome, mean_losses
from metaser.tasks import Task

#: Tasks per group on a CPU, where several groups run on several threads; a GPU takes the whole meta-batch.
CPU_GROUP = 8


class StackedEngine(Engine):
    """Weights and slopes are lists of tensors ``(tasks, …)``, one per parameter; see `Engine` for the arguments."""

    def group_size(self, meta_batch: int) -> int:
        """The whole meta-batch on a GPU."""
        return meta_batch if next(self.model.parameters()).is_cuda else min(meta_batch, CPU_GROUP)

    def group(self, tasks: Sequence[Task]) -> Group:
        """The tasks, stacked."""
        support = Clips(
            torch.stack([task.support_x for task in tasks]), torch.stack([task.support_y for task in tasks])
        )
        query = Clips(torch.stack([task.query_x for task in tasks]), torch.stack([task.query_y for task in tasks]))
        return Group(tuple(tasks), support, query)

    def start(self, parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
        """The parameters with a leading dimension of one, which grows to the tasks' number when it meets them."""
        return [parameter.detach().unsqueeze(0).requires_grad_() for parameter in parameters]

    def outcome(self, weights: list[torch.Tensor], clips: Clips, twice: bool = False) -> Outcome:
        """See `Engine.outcome`; the plain layers can always be differentiated twice."""
        lower, tasks = self.options.precision == "bfloat16", len(clips.x)
        spread = [weight.expand(tasks, *weight.shape[1:]) for weight in weights]
        network = self.network()

        def one(own: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
            return network(own, x, "plain")

        with torch.autocast(clips.x.device.type, torch.bfloat16, enabled=lower):
            logits = torch.vmap(one)(spread, clips.x)[..., : clips.outputs]
        losses = mean_losses(logits.float() if lower else logits, clips.y)
        return Outcome(losses.sum(), losses, logits, trace=spread)

    def slopes(
        self, outcome: Outcome, weights: list[torch.Tensor], adapted: Sequence[bool], keep: bool
    ) -> list[torch.Tensor | None]:
        """A gradient ``(tasks, …)`` per parameter; None for those that are not wanted."""
        wanted = [weight for weight, chosen in zip(outcome.trace, adapted, strict=True) if chosen]
        found = iter(torch.autograd.grad(outcome.loss, wanted, create_graph=keep))
        return [next(found) if chosen else None for chosen in adapted]

    def step(
        self,
        weights: list[torch.Tensor],
        slopes: list[torch.Tensor | None],
        rate: float | list[torch.Tensor],
        keep: bool,
    ) -> list[torch.Tensor]:
        """See `Engine.step`."""
        rates: list[Any] = rate if isinstance(rate, list) else [rate] * len(weights)
        with torch.set_grad_enabled(keep):
            moved = [w if s is None else w - r * s for w, s, r in zip(weights, slopes, rates, strict=True)]
        return moved if keep else [weight.detach().requires_grad_() for weight in moved]

    def gradient(self, outcome: Outcome, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """See `Engine.gradient`."""
        return tuple(found.sum(dim=0) for found in torch.autograd.grad(outcome.loss, weights))

    def total(self, slopes: Sequence[list[torch.Tensor | None]]) -> tuple[torch.Tensor, ...]:
        """See `Engine.total`."""
        result = []
        for parameter, *column in zip(self.model.parameters(), *slopes, strict=True):
            found = [slope.sum(dim=0) for slope in column if slope is not None]
            result.append(torch.stack(found).sum(dim=0) if found else torch.zeros_like(parameter))
        return tuple(result)
