"""Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999, algorithm 2).

Meta-gradient (θ − φ_k)/α, a descent direction: the outer step moves θ *towards* φ_k. The report of source 1 prints
θ' = θ − α·mean(φ − θ) (its equation 2), which moves away from φ_k; a test shows which of the two learns. With k = 1 the
meta-gradient is ∇L_S(θ): joint training, no meta-learning at all, so k > 1 is needed. The query set is not used.
"""

from __future__ import annotations

import torch

from metaser.algorithms.base import MetaGradient, report
from metaser.algorithms.maml import FOMAML
from metaser.engine import Group


class Reptile(FOMAML):
    """Reptile; see `Learner` for the arguments."""

    def meta_gradient(self, group: Group) -> MetaGradient:
        """(θ − φ_k)/α as Σⱼ ∇L_S(φⱼ), the same without the cancellation that the difference suffers in float32."""
        learner, total = self.begin(group), [torch.zeros_like(weight) for weight in self.parameters()]
        for _ in range(self.settings.steps):
            outcome = learner.support(group)
            with self.engine.summing(learner, total):  # ∇L_S(φⱼ), on its way through adapt()
                learner.adapt(outcome.loss)
        return report(tuple(total), outcome, group.support)
