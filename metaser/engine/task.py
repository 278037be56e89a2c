"""One task at a time, functionally: the weights are a flat list, and each thread has its own copy of the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from metaser import config
from metaser.engine.base import Engine, Flat, Group, Weights
from metaser.engine.layers import BatchNorm

#: The step of a central difference, as a share of the weights' norm; near the cube root of float32's and float64's ε.
SPACING = {torch.float32: 1e-3, torch.float64: 1e-5}


class TaskEngine(Engine):
    """Layout ``task``: learn2learn adapts a `Flat` module; see `Engine` for the arguments."""

    module: Flat

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        super().__init__(model, options)
        self.module = Flat(model, options)

    def part(self, module: nn.Module, chosen: Callable[[str], bool]) -> nn.Module:
        """See `Engine.part`."""
        assert isinstance(module, Flat)
        return module.part(chosen)

    def twice(self, module: nn.Module, wanted: bool) -> None:
        """See `Engine.twice`."""
        assert isinstance(module, Flat)
        module.twice = wanted

    def conditioned(self, module: nn.Module, group: Group) -> torch.Tensor:
        """The query set's logits, batch normalisation by the support set's statistics alone: an inductive answer."""
        assert isinstance(module, Flat)
        network = module.networks.own()
        layers = [layer for layer in network.module.modules() if isinstance(layer, BatchNorm)]
        support, query = group.support.x, group.query.x
        try:
            for layer in layers:
                layer.reference = len(support)
            return network(module.weights(), torch.cat([support, query]), "native")[len(support) :]
        finally:
            for layer in layers:
                layer.reference = None


def hessian_product(
    loss: Callable[[Weights], torch.Tensor], weights: Weights, direction: Weights
) -> tuple[torch.Tensor, ...]:
    """A loss's Hessian at ``weights`` times ``direction``, by central differences of two gradients.

    An approximation: its relative error against exact float64 was 1e-9 in float64 and 1e-4 in float32 for MetaSER's
    LSTM, of the product itself; in the meta-gradient it is scaled by the inner learning rate. Right for networks with
    continuous second derivatives only.
    """
    at = [weight.detach() for weight in weights]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))  # type: ignore[arg-type]
    size = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(at)))
    if not norm > 0:
        return tuple(torch.zeros_like(weight) for weight in at)
    spacing = float(SPACING[at[0].dtype] * size / norm)

    def gradient(offset: float) -> tuple[torch.Tensor, ...]:
        there = [(w + offset * d).requires_grad_() for w, d in zip(at, direction, strict=True)]
        return torch.autograd.grad(loss(there), there)

    ahead, behind = gradient(spacing), gradient(-spacing)
    return tuple((a - b) / (2 * spacing) for a, b in zip(ahead, behind, strict=True))
