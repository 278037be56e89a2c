"""Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999, algorithm 2).

Meta-gradient (θ − φ_k)/α, a descent direction: the outer step moves θ *towards* φ_k. The report of source 1 prints
θ' = θ − α·mean(φ − θ) (its equation 2), which moves away from φ_k; a test shows which of the two learns. With k = 1 the
meta-gradient is ∇L_S(θ): joint training, no meta-learning at all, so k > 1 is needed. The query set is not used.
"""

from __future__ import annotations

import torch

from metaser.algorithms.base import MetaGradient
from metaser.algorithms.maml import FOMAML
from metaser.tasks import Task


class Reptile(FOMAML):
    """Reptile; see `Learner` for the arguments."""

    def meta_gradient(self, task: Task) -> MetaGradient:
        """Σⱼ ∇L_S(φⱼ), which is (θ − φ_k)/α without the cancellation that the difference suffers in float32."""
        adapted = self.adapt(task, self.settings.steps, first_order=True)
        steps = [[torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters(), gradients, strict=True)]
                 for gradients in adapted.gradients]  # fmt: skip
        total = tuple(torch.stack(column).sum(dim=0) for column in zip(*steps, strict=True))
        return MetaGradient(total, adapted.loss, adapted.correct, len(task.support_y))
