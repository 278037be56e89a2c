"""MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400) and its first-order variant, on `learn2learn.algorithms.MAML`.

Inner loop, k steps on the support loss: φ₀ = θ, φⱼ₊₁ = φⱼ − α ∇L_S(φⱼ).
MAML's meta-gradient:   d L_Q(φ_k(θ)) / dθ, through the inner loop (their equation 1).
FOMAML's meta-gradient: ∇L_Q at φ_k, the inner loop's derivative taken as the identity (their section 5.2).
"""

from __future__ import annotations

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, correct, cross_entropy
from metaser.learn2learn import l2l
from metaser.tasks import Task


class MAML(Learner):
    """Second-order MAML; see `Learner` for the arguments."""

    first_order = False

    def __init__(self, model: nn.Module, settings: config.Algorithm) -> None:
        super().__init__(model, settings)
        self.maml = l2l.algorithms.MAML(model, lr=settings.inner_lr, first_order=self.first_order)

    def adapt(self, task: Task, steps: int, first_order: bool) -> l2l.algorithms.MAML:
        """A clone after ``steps`` gradient steps on the support set."""
        clone = self.maml.clone(first_order=first_order)
        for _ in range(steps):
            clone.adapt(cross_entropy(clone(task.support_x), task.support_y))
        return clone

    def meta_gradient(self, task: Task) -> MetaGradient:
        """d L_Q(φ)/dθ for MAML, ∇L_Q(φ) for FOMAML."""
        adapted = self.adapt(task, self.settings.steps, self.first_order)
        logits = adapted(task.query_x)
        loss = cross_entropy(logits, task.query_y)
        gradients = torch.autograd.grad(loss, self.parameters())
        return MetaGradient(gradients, loss.item(), correct(logits, task.query_y), len(task.query_y))

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation; nothing is differentiated through it, so first order suffices."""
        adapted = self.adapt(task, self.settings.test_steps or self.settings.steps, first_order=True)
        with torch.no_grad():
            return adapted(task.query_x)


class FOMAML(MAML):
    """First-order MAML."""

    first_order = True
