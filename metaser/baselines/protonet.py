"""Prototypical networks (Snell, Swersky, Zemel 2017, arXiv 1703.05175).

The prototype of a class is the mean embedding of its support clips (their equation 1); a query clip's logits are its
negative squared Euclidean distances to the prototypes (equation 2).
"""

from __future__ import annotations

import torch

from metaser.baselines.metric import MetricLearner


class ProtoNet(MetricLearner):
    """A prototypical network; see `Learner` for the arguments."""

    def compare(self, support: torch.Tensor, member: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Negative squared distances, in squared units of the embedding."""
        prototypes = member.T @ support / member.sum(dim=0)[:, None]
        return -(query[:, None] - prototypes).square().sum(dim=2)  # cdist has no gradient where two points meet
