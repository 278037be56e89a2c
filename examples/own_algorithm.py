"""An algorithm of one's own, in a file of one's own, beside metaser's.

metaser run experiments/fmaml --variant 5shot --set 'compare=[fmaml, mine]' \
    --set 'algorithms.mine={name: "examples/own_algorithm.py:Proximal", inner_lr: 0.1, steps: 5, fixed_support: true}'
"""

import torch

from metaser.algorithms import FOMAML, MetaGradient
from metaser.engine import Group


class Proximal(FOMAML):
    """First-order MAML whose inner steps are held near the start: L_S(φ) + ½ ‖φ − θ‖² (Rajeswaran et al., 2019, equation 3)."""

    def inner_loss(self, group: Group) -> torch.Tensor:
        """The support loss, and the distance from the start."""
        pairs = zip(self.module.parameters(), self.start, strict=True)
        return super().inner_loss(group) + sum(0.5 * (now - then).square().sum() for now, then in pairs)

    def meta_gradient(self, group: Group) -> MetaGradient:
        """∇L_Q(φ)."""
        learner = self.begin(group)
        learner.start = [weight.detach() for weight in learner.module.parameters()]
        for _ in range(self.settings.steps):
            learner.adapt(learner.inner_loss(group))
        return self.gradient(learner.query(group), group)
