"""Meta-SGD (Li, Zhou, Chen, Li 2017, arXiv 1707.09835): MAML that also learns its inner learning rates.

Inner step φⱼ₊₁ = φⱼ − α ∘ ∇L_S(φⱼ) with one rate per weight (their equation 2), all starting at ``inner_lr``; the
meta-gradient is d L_Q(φ_k(θ, α)) / d(θ, α) (their equation 4), so the outer loop learns twice as many numbers.
"""

from __future__ import annotations

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, cross_entropy, query_gradient
from metaser.learn2learn import l2l
from metaser.tasks import Task


class MetaSGD(Learner):
    """Meta-SGD, on `learn2learn.algorithms.MetaSGD`; see `Learner` for the arguments."""

    def __init__(self, model: nn.Module, settings: config.Algorithm) -> None:
        super().__init__(model, settings)
        self.metasgd = l2l.algorithms.MetaSGD(model, lr=settings.inner_lr)

    def parameters(self) -> list[nn.Parameter]:
        """θ, then α."""
        return [*self.model.parameters(), *self.metasgd.lrs]

    def adapt(self, task: Task, steps: int, first_order: bool) -> l2l.algorithms.MetaSGD:
        """A clone after ``steps`` steps on the support set."""
        clone = self.metasgd.clone()
        for _ in range(steps):
            clone.adapt(cross_entropy(clone(task.support_x), task.support_y), first_order=first_order)
        return clone

    def meta_gradient(self, task: Task) -> MetaGradient:
        """d L_Q(φ)/d(θ, α)."""
        return query_gradient(self.adapt(task, self.settings.steps, first_order=False), task, self.parameters())

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation with the learned rates."""
        adapted = self.adapt(task, self.settings.test_steps or self.settings.steps, first_order=True)
        with torch.no_grad():
            return adapted(task.query_x)
