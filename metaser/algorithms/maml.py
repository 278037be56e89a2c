"""MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400) and its first-order variant: `learn2learn.algorithms.MAML`s.

Inner loop, k steps on the support loss: φ₀ = θ, φⱼ₊₁ = φⱼ − α ∇L_S(φⱼ).
MAML's meta-gradient:   d L_Q(φ_k(θ)) / dθ, through the inner loop (their equation 1).
FOMAML's meta-gradient: ∇L_Q at φ_k, the inner loop's derivative taken as the identity (their section 5.2).

Both are the same lines: learn2learn's ``adapt()`` keeps the step differentiable, or does not.
"""

from __future__ import annotations

import torch

from metaser.algorithms.base import MetaGradient, report
from metaser.algorithms.inner import InnerLoop
from metaser.engine import Group
from metaser.engine.lowrank import LowRank
from metaser.engine.task import hessian_product
from metaser.runtime.learn2learn import l2l


class MAML(InnerLoop, l2l.algorithms.MAML):
    """Second-order MAML; see `metaser.algorithms.base.Learner` for the arguments."""

    def adapt(
        self,
        loss: torch.Tensor,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> None:
        """learn2learn's own inner step, but where adapted weights are never formed: see `metaser.engine.lowrank.LowRank`."""
        if isinstance(self.module, LowRank):
            first = self.first_order if first_order is None else first_order
            self.module = self.module.adapted(loss, self.lr, second_order=not first)
        else:
            super().adapt(loss, first_order, allow_unused, allow_nograd)

    def meta_gradient(self, group: Group) -> MetaGradient:
        """d L_Q(φ)/dθ for MAML, ∇L_Q(φ) for FOMAML."""
        if not self.first_order and self.engine.options.curvature != "exact":
            return self.by_differences(group)
        learner = self.begin(group)
        for _ in range(self.settings.steps):
            learner.adapt(learner.inner_loss(group))
        return self.gradient(learner.query(group), group)

    def by_differences(self, group: Group) -> MetaGradient:
        """d L_Q(φ)/dθ by v ← v − α Hⱼ v from ∇L_Q(φ_k) back to θ, with products Hⱼ v from differences of gradients."""
        learner = self.begin(group, first_order=True)
        path = []
        for _ in range(self.settings.steps):
            path.append(list(learner.module.parameters()))
            learner.adapt(learner.inner_loss(group))
        outcome = learner.query(group)
        v = torch.autograd.grad(outcome.loss, list(learner.module.parameters()))
        for weights in reversed(path):
            product = hessian_product(lambda at: learner.at(at).inner_loss(group), weights, v)
            v = tuple(a - self.lr * b for a, b in zip(v, product, strict=True))
        return report(v, outcome, group.query)


class FOMAML(MAML):
    """First-order MAML."""

    first_order = True
