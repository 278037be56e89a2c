"""Relation networks (Sung et al., CVPR 2018, arXiv 1711.06025): the comparison itself is learned.

A class is the sum of its support clips' embeddings (their section 3.2). A relation module, here two dense layers, gives it and a
query clip a score between 0 and 1 (equation 1), trained by squared error against 1 for the clip's own class and 0 for the
others (equation 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.algorithms.fitting import seed_of
from metaser.baselines.metric import MetricLearner
from metaser.models import seeded

#: Of the relation module's hidden layer.
WIDTH = 64


class RelationNet(MetricLearner):
    """A relation network; see `Learner` for the arguments.

    Attributes:
        relation: The relation module.
    """

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        with seeded(seed_of(*model.parameters())):
            layers = nn.Linear(2 * self.width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
            self.relation = nn.Sequential(*layers).to(next(model.parameters()))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The embedding's, then the relation module's."""
        return chain(self.model.parameters(), self.relation.parameters())

    def state(self) -> dict[str, torch.Tensor]:
        """The embedding's weights, and the relation module's."""
        return super().state() | dict(self.relation.named_parameters(prefix="relation"))

    def compare(self, support: torch.Tensor, member: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """The scores before they are brought between 0 and 1."""
        classes = member.T @ support
        pairs = torch.cat([
            classes.expand(len(query), -1, -1),
            query[:, None].expand(-1, len(classes), -1),
        ], dim=2)  # fmt: skip
        return self.relation(pairs)[:, :, 0]

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the scores."""
        return F.mse_loss(logits.sigmoid(), F.one_hot(labels, logits.shape[1]).to(logits.dtype))
