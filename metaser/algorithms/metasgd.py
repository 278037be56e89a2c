"""Meta-SGD (Li, Zhou, Chen, Li 2017, arXiv 1707.09835): MAML that also learns its inner learning rates.

Inner step φⱼ₊₁ = φⱼ − α ∘ ∇L_S(φⱼ) with one rate per weight (their equation 2), all starting at ``inner_lr``; the
meta-gradient is d L_Q(φ_k(θ, α)) / d(θ, α) (their equation 4), so the outer loop learns twice as many numbers.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import MetaGradient
from metaser.algorithms.inner import InnerLoop, InnerSettings
from metaser.engine import Group
from metaser.runtime.errors import UserError
from metaser.runtime.learn2learn import l2l


class MetaSGD(InnerLoop, l2l.algorithms.MetaSGD):
    """Meta-SGD, learn2learn's, whose ``lrs`` are α; see `metaser.algorithms.base.Learner` for the arguments."""

    one_rate = False

    def __init__(self, model: nn.Module, settings: InnerSettings, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        if self.engine.options.curvature != "exact":
            raise UserError("engine.curvature: Meta-SGD learns its rates through exact second derivatives; use exact")

    def state(self) -> dict[str, torch.Tensor]:
        """θ, and under ``rates`` α."""
        names = [name for name, _ in self.model.named_parameters(prefix="rates")]
        return super().state() | dict(zip(names, self.lrs, strict=True))

    def begin(self, group: Group, first_order: bool | None = None) -> Self:
        """See `InnerLoop.begin`; of first order, the step is no function of the rates either."""
        learner = super().begin(group, first_order)
        if learner.first_order:
            learner.lrs = [rate.detach() for rate in learner.lrs]
        return learner

    def meta_gradient(self, group: Group) -> MetaGradient:
        """d L_Q(φ)/d(θ, α)."""
        learner = self.begin(group)
        for _ in range(self.settings.steps):
            learner.adapt(learner.inner_loss(group))
        return self.gradient(learner.query(group), group)
