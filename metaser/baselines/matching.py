"""Matching networks (Vinyals et al. 2016, arXiv 1606.04080), without full-context embeddings.

A query clip attends to every support clip by a softmax over cosine similarities (their equation 2 and section 2.1.1); the
probability of a class is the attention that its clips get (equation 1).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from metaser.baselines.metric import MetricLearner

#: The least probability, so that its logarithm is finite and has a gradient.
LEAST = 1e-12


class MatchingNet(MetricLearner):
    """A matching network; see `Learner` for the arguments."""

    def compare(self, support: torch.Tensor, member: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Logarithms of the classes' probabilities."""
        attention = (F.normalize(query, dim=1) @ F.normalize(support, dim=1).T).softmax(dim=1)
        return (attention @ member).clamp_min(LEAST).log()
