"""Meta-SGD (Li, Zhou, Chen, Li 2017, arXiv 1707.09835): MAML that also learns its inner learning rates.

Inner step φⱼ₊₁ = φⱼ − α ∘ ∇L_S(φⱼ) with one rate per weight (their equation 2), all starting at ``inner_lr``; the
meta-gradient is d L_Q(φ_k(θ, α)) / d(θ, α) (their equation 4), so the outer loop learns twice as many numbers.
"""

from __future__ import annotations

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import MetaGradient
from metaser.algorithms.maml import MAML
from metaser.engine import Group
from metaser.errors import UserError
from metaser.learn2learn import l2l
from metaser.tasks import Task


class MetaSGD(MAML):
    """Meta-SGD; see `Learner` for the arguments.

    Attributes:
        metasgd: θ and α in learn2learn's own form.
    """

    one_rate = False

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        if self.engine.options.curvature != "exact":
            raise UserError("engine.curvature: Meta-SGD learns its rates through exact second derivatives; use exact")
        self.metasgd = l2l.algorithms.MetaSGD(model, lr=settings.inner_lr)

    def parameters(self) -> list[nn.Parameter]:
        """θ, then α."""
        return [*self.model.parameters(), *self.metasgd.lrs]

    def state(self) -> dict[str, torch.Tensor]:
        """θ, and under ``rates`` α."""
        names = [name for name, _ in self.model.named_parameters(prefix="rates")]
        return super().state() | dict(zip(names, self.metasgd.lrs, strict=True))

    def meta_gradient(self, group: Group) -> MetaGradient:
        """d L_Q(φ)/d(θ, α)."""
        start = self.engine.start(self.parameters())
        weights, rates = self.engine.split(start)
        adapted = self.adapt(group, weights, self.settings.steps, keep=True, rate=rates)
        return self.query_gradient(group, adapted.path[-1], start)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation with the learned rates."""
        group = self.engine.group([task])
        weights, rates = self.engine.split(self.engine.start(self.parameters()))
        weights = self.adapted(group, weights, self.settings.testing, rate=rates)
        with torch.no_grad():
            return self.engine.outcome(weights, group.query).logits.flatten(0, -2)
