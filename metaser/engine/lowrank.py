"""Fully connected networks, many tasks at once, with adapted weights that are never formed.

A linear layer's gradient is Δᵀ X, with the clips X that entered it and the loss's gradient Δ at its outputs. After inner
steps j the layer therefore is W − α Σⱼ Δⱼᵀ Xⱼ, and on clips Z

    Z (W − α Σⱼ Δⱼᵀ Xⱼ)ᵀ = Z Wᵀ − α Σⱼ (Z Xⱼᵀ) Δⱼ:

one large product with the W that all tasks share, and small ones whose side is the number of support clips. Nothing of W's
size is written per task, which is what a small network spends its time on. Exact, in first and in second order.

Clips come first and tasks second, ``(clips, tasks, features)``: then a task's batch normalisation is a channel's, and one
fused kernel normalises all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from metaser.engine.base import Clips, Engine, Group, Outcome, Weights, mean_losses
from metaser.layers import BatchNorm
from metaser.layers.normalisation import normalise
from metaser.tasks import Task

#: Tasks per group: enough for large products, and several groups for several threads.
GROUP = 16


@dataclass(frozen=True)
class Update:
    """One inner step of a linear layer: its inputs and its outputs' gradient, ``(clips, tasks, …)``, and the rates."""

    x: torch.Tensor
    delta: torch.Tensor
    weight_rate: float
    bias_rate: float


@dataclass(frozen=True)
class LowRank:
    """Weights of a group.

    Attributes:
        leaves: One tensor per parameter of the network, in their order: shared by all tasks for linear layers,
            ``(tasks, features)`` or ``(1, features)`` for normalisations.
        updates: Per linear layer, what inner steps have added.
    """

    leaves: list[torch.Tensor]
    updates: list[list[Update]]


@dataclass(frozen=True)
class Trace:
    """Of a forward pass: each linear layer's inputs and outputs, and the normalisations' parameters, one row per task."""

    linear: list[tuple[torch.Tensor, torch.Tensor]]
    spread: dict[int, torch.Tensor]


@dataclass(frozen=True)
class LowRankSlopes:
    """Per linear layer its inputs and its outputs' gradient; per parameter of a normalisation its gradient."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]]
    dense: dict[int, torch.Tensor]
    adapted: Sequence[bool]


class LowRankEngine(Engine):
    """Weights are `LowRank`, slopes `LowRankSlopes`; see `Engine` for the arguments."""

    @staticmethod
    def takes(model: nn.Module) -> bool:
        """Whether the network is a ``body`` of flattening, linear layers, normalisations and ReLUs, and a linear ``head``."""
        body, head = getattr(model, "body", None), getattr(model, "head", None)
        return (
            isinstance(body, nn.Sequential)
            and isinstance(head, nn.Linear)
            and [name for name, _ in model.named_children()] == ["body", "head"]
            and all(isinstance(layer, nn.Flatten | nn.Linear | BatchNorm | nn.ReLU) for layer in body)
            and all(p is not None for module in model.modules() for p in module._parameters.values())
        )

    def group_size(self, meta_batch: int) -> int:
        """At most `GROUP`, and half of the meta-batch."""
        return min(GROUP, max(1, (meta_batch + 1) // 2))

    def group(self, tasks: Sequence[Task]) -> Group:
        """The tasks side by side, clips first."""

        def stack(x: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.stack(list(x), dim=1).flatten(2)

        support = Clips(stack([t.support_x for t in tasks]), torch.stack([t.support_y for t in tasks]))
        query = Clips(stack([t.query_x for t in tasks]), torch.stack([t.query_y for t in tasks]))
        return Group(tuple(tasks), support, query)

    def start(self, parameters: Sequence[nn.Parameter]) -> LowRank:
        """See `Engine.start`; a normalisation's parameters get a leading dimension of one."""
        places = self._of_normalisations()
        leaves = [
            (parameter.detach().unsqueeze(0) if place in places else parameter.detach()).requires_grad_()
            for place, parameter in enumerate(parameters)
        ]
        return LowRank(leaves, [[] for layer in self.layers() if isinstance(layer, nn.Linear)])

    def split(self, weights: LowRank) -> tuple[LowRank, list[torch.Tensor]]:
        """There are no others."""
        return weights, []

    def outcome(self, weights: LowRank, clips: Clips, twice: bool = False) -> Outcome:
        """See `Engine.outcome`."""
        updates, trace = iter(weights.updates), Trace([], {})
        x, tasks, place = clips.x, clips.x.shape[1], 0
        for layer in self.layers():
            own = weights.leaves[place : place + len(layer._parameters)]
            if isinstance(layer, nn.Linear):
                y = F.linear(x, *own)
                for update in next(updates):
                    y = y - change(x, update)
                trace.linear.append((x, y))
                x = y
            elif isinstance(layer, BatchNorm):
                spread = [leaf.expand(tasks, -1) for leaf in own]
                trace.spread.update({place + n: leaf for n, leaf in enumerate(spread)})
                scale, shift = (leaf.reshape(-1) for leaf in spread)
                x = normalise(x.flatten(1), scale, shift, layer.eps, twice).view_as(x)
            else:
                x = torch.relu(x)
            place += len(own)
        logits = x.transpose(0, 1)[..., : clips.outputs]
        losses = mean_losses(logits, clips.y)
        return Outcome(losses.sum(), losses, logits, trace)

    def slopes(self, outcome: Outcome, weights: LowRank, adapted: Sequence[bool], keep: bool) -> LowRankSlopes:
        """See `Engine.slopes`."""
        trace: Trace = outcome.trace
        spread = {place: leaf for place, leaf in trace.spread.items() if adapted[place]}
        outputs = [y for _, y in trace.linear]
        found = torch.autograd.grad(outcome.loss, [*outputs, *spread.values()], create_graph=keep)
        pairs = [(x if keep else x.detach(), delta) for (x, _), delta in zip(trace.linear, found, strict=False)]
        return LowRankSlopes(pairs, dict(zip(spread, found[len(outputs) :], strict=True)), adapted)

    def step(self, weights: LowRank, slopes: LowRankSlopes, rate: float | Weights, keep: bool) -> LowRank:
        """See `Engine.step`; the rate is a number."""
        with torch.set_grad_enabled(keep):
            leaves = [
                leaf - rate * slopes.dense[place] if place in slopes.dense else leaf
                for place, leaf in enumerate(weights.leaves)
            ]
        leaves = leaves if keep else [leaf.detach().requires_grad_() for leaf in leaves]
        updates = [
            [*before, Update(x, delta, rate * slopes.adapted[weight], rate * slopes.adapted[bias])]
            for before, (x, delta), (weight, bias) in zip(weights.updates, slopes.pairs, self._of_linear(), strict=True)
        ]
        return LowRank(leaves, updates)

    def gradient(self, outcome: Outcome, weights: LowRank) -> tuple[torch.Tensor, ...]:
        """See `Engine.gradient`."""
        found, places = torch.autograd.grad(outcome.loss, weights.leaves), self._of_normalisations()
        return tuple(g.sum(dim=0) if place in places else g for place, g in enumerate(found))

    def total(self, slopes: Sequence[LowRankSlopes]) -> tuple[torch.Tensor, ...]:
        """See `Engine.total`."""
        result = [torch.zeros_like(parameter) for parameter in self.model.parameters()]
        for each in slopes:
            for (x, delta), (weight, bias) in zip(each.pairs, self._of_linear(), strict=True):
                rows = delta.flatten(0, 1)
                if each.adapted[weight]:
                    result[weight].addmm_(rows.t(), x.flatten(0, 1))
                if each.adapted[bias]:
                    result[bias] += rows.sum(dim=0)
            for place, g in each.dense.items():
                result[place] += g.sum(dim=0)
        return tuple(result)

    def layers(self) -> list[nn.Module]:
        """Body and head, in the order of computation, without what only reshapes."""
        layers = [*self.model.body, self.model.head]  # type: ignore[misc]
        return [layer for layer in layers if not isinstance(layer, nn.Flatten)]

    def _of_linear(self) -> list[tuple[int, int]]:
        """The places of each linear layer's weight and bias among the parameters."""
        owners = [layer for layer in self.layers() for _ in layer._parameters]
        return [
            (n, n + 1) for n, layer in enumerate(owners) if isinstance(layer, nn.Linear) and owners[n - 1] is not layer
        ]

    def _of_normalisations(self) -> set[int]:
        """The places of the normalisations' parameters."""
        owners = [layer for layer in self.layers() for _ in layer._parameters]
        return {place for place, layer in enumerate(owners) if isinstance(layer, BatchNorm)}


def change(z: torch.Tensor, update: Update) -> torch.Tensor:
    """α (Z Xᵀ) Δ, and α Δ's sum for the bias, task by task: ``(clips, tasks, outputs)``."""
    alike = torch.bmm(z.transpose(0, 1), update.x.permute(1, 2, 0)) * update.weight_rate + update.bias_rate
    return torch.bmm(alike, update.delta.transpose(0, 1)).transpose(0, 1)
