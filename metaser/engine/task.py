"""One task at a time, functionally: no clone, no module surgery, and each thread with its own copy of the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from metaser.engine.base import Clips, Engine, Group, Outcome
from metaser.layers import BatchNorm
from metaser.tasks import Task

#: The step of a central difference, as a share of the weights' norm; near the cube root of float32's and float64's ε.
SPACING = {torch.float32: 1e-3, torch.float64: 1e-5}


class TaskEngine(Engine):
    """Weights and slopes are lists of tensors, one per parameter; see `Engine` for the arguments."""

    def group_size(self, meta_batch: int) -> int:
        """One."""
        return 1

    def group(self, tasks: Sequence[Task]) -> Group:
        """The one task, as it is."""
        (task,) = tasks
        return Group((task,), Clips(task.support_x, task.support_y), Clips(task.query_x, task.query_y))

    def start(self, parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
        """The parameters themselves: nothing here changes them or their ``grad``."""
        return list(parameters)

    def outcome(self, weights: list[torch.Tensor], clips: Clips, twice: bool = False) -> Outcome:
        """See `Engine.outcome`."""
        lower = self.options.precision == "bfloat16"
        with torch.autocast(clips.x.device.type, torch.bfloat16, enabled=lower):
            logits = self.network()(weights, clips.x, "twice" if twice else "native")[:, : clips.outputs]
        loss = F.cross_entropy(logits.float() if lower else logits, clips.y)
        return Outcome(loss, loss, logits)

    def conditioned(self, weights: list[torch.Tensor], group: Group) -> torch.Tensor:
        """The query set's logits, batch normalisation by the support set's statistics alone: an inductive answer."""
        network = self.network()
        layers = [module for module in network.module.modules() if isinstance(module, BatchNorm)]
        support, query = group.support.x, group.query.x
        try:
            for layer in layers:
                layer.reference = len(support)
            return network(weights, torch.cat([support, query]), "native")[len(support) :]
        finally:
            for layer in layers:
                layer.reference = None

    def slopes(
        self, outcome: Outcome, weights: list[torch.Tensor], adapted: Sequence[bool], keep: bool
    ) -> list[torch.Tensor | None]:
        """A gradient per parameter; None for those that are not wanted."""
        wanted = [weight for weight, chosen in zip(weights, adapted, strict=True) if chosen]
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
        with torch.set_grad_enabled(keep):
            if isinstance(rate, list):
                moved = [w if s is None else w - r * s for w, s, r in zip(weights, slopes, rate, strict=True)]
            elif any(slope is None for slope in slopes):
                moved = [w if s is None else w - rate * s for w, s in zip(weights, slopes, strict=True)]
            else:
                moved = list(torch._foreach_add(weights, slopes, alpha=-rate))  # type: ignore[arg-type]
        return moved if keep else [weight.requires_grad_() for weight in moved]

    def gradient(self, outcome: Outcome, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """See `Engine.gradient`."""
        return torch.autograd.grad(outcome.loss, weights)

    def total(self, slopes: Sequence[list[torch.Tensor | None]]) -> tuple[torch.Tensor, ...]:
        """See `Engine.total`."""
        result = []
        for parameter, *column in zip(self.model.parameters(), *slopes, strict=True):
            found = [slope for slope in column if slope is not None]
            result.append(torch.stack(found).sum(dim=0) if found else torch.zeros_like(parameter))
        return tuple(result)

    def hessian_product(
        self, weights: list[torch.Tensor], clips: Clips, direction: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The loss's Hessian at ``weights`` times ``direction``, by central differences of two gradients.

        An approximation: its relative error against exact float64 was 1e-9 in float64 and 1e-4 in float32 for MetaSER's
        LSTM, of the product itself; in the meta-gradient it is scaled by the inner learning rate. Right for networks with
        continuous second derivatives only.
        """
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))  # type: ignore[arg-type]
        size = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([w.detach() for w in weights])))
        if not norm > 0:
            return tuple(torch.zeros_like(weight) for weight in weights)
        spacing = float(SPACING[weights[0].dtype] * size / norm)

        def gradient(offset: float) -> tuple[torch.Tensor, ...]:
            there = self.step(weights, list(direction), -offset, keep=False)
            return self.gradient(self.outcome(there, clips), there)

        ahead, behind = gradient(spacing), gradient(-spacing)
        return tuple((a - b) / (2 * spacing) for a, b in zip(ahead, behind, strict=True))
