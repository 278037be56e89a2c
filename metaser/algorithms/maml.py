"""MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400) and its first-order variant, on `learn2learn.algorithms.MAML`.

Inner loop, k steps on the support loss: φ₀ = θ, φⱼ₊₁ = φⱼ − α ∇L_S(φⱼ).
MAML's meta-gradient:   d L_Q(φ_k(θ)) / dθ, through the inner loop (their equation 1).
FOMAML's meta-gradient: ∇L_Q at φ_k, the inner loop's derivative taken as the identity (their section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, correct, cross_entropy, query_gradient
from metaser.learn2learn import l2l
from metaser.tasks import Task


@dataclass(frozen=True)
class Adapted:
    """Where the inner loop ended.

    Attributes:
        network: The adapted clone, φ_k; call it on features.
        gradients: ∇L_S(φ₀) … ∇L_S(φ_{k−1}), each as one tensor per parameter; None for a parameter that is not adapted.
        loss: The support loss L_S(φ_{k−1}), at the last step's start.
        correct: Support clips classified rightly there.
    """

    network: l2l.algorithms.MAML
    gradients: list[list[torch.Tensor | None]]
    loss: float
    correct: int


class MAML(Learner):
    """Second-order MAML; see `Learner` for the arguments."""

    first_order = False

    def __init__(self, model: nn.Module, settings: config.Algorithm) -> None:
        super().__init__(model, settings)
        self.maml = l2l.algorithms.MAML(model, lr=settings.inner_lr, first_order=self.first_order)

    def adapts(self, name: str) -> bool:
        """Whether the inner loop changes the parameter of that name."""
        return True

    def adapt(self, task: Task, steps: int, first_order: bool) -> Adapted:
        """A clone of θ after ``steps`` gradient steps on the support set.

        Args:
            task: The task.
            steps: k.
            first_order: Leave out the graph that a derivative through the inner loop needs.
        """
        clone = self.maml.clone(first_order=first_order)
        names = [name for name, _ in clone.module.named_parameters()]
        gradients: list[list[torch.Tensor | None]] = []
        for _ in range(steps):
            logits = clone(task.support_x)
            loss = cross_entropy(logits, task.support_y)
            changed = {name: p for name, p in clone.module.named_parameters() if self.adapts(name)}
            slopes = torch.autograd.grad(loss, list(changed.values()), create_graph=not first_order)
            by_name = dict(zip(changed, slopes, strict=True))
            gradients.append([by_name.get(name) for name in names])
            l2l.algorithms.maml.maml_update(clone.module, self.settings.inner_lr, gradients[-1])
        return Adapted(clone, gradients, loss.item(), correct(logits, task.support_y))

    def meta_gradient(self, task: Task) -> MetaGradient:
        """d L_Q(φ)/dθ for MAML, ∇L_Q(φ) for FOMAML."""
        adapted = self.adapt(task, self.settings.steps, self.first_order)
        return query_gradient(adapted.network, task, self.parameters())

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation; nothing is differentiated through it, so first order suffices."""
        adapted = self.adapt(task, self.settings.test_steps or self.settings.steps, first_order=True)
        with torch.no_grad():
            return adapted.network(task.query_x)


class FOMAML(MAML):
    """First-order MAML."""

    first_order = True
