"""Prototypical networks (Snell, Swersky, Zemel 2017, arXiv 1703.05175).

The prototype of a class is the mean embedding of its support clips (their equation 1); a query clip's logits are its
negative squared Euclidean distances to the prototypes (equation 2). The embedding is the network without its head, and
the meta-gradient that of the query loss. Nothing adapts. Every class must be in the support set, so on tasks with
fixed classes ``fixed_support: true`` is needed.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, report
from metaser.engine import Group, Outcome
from metaser.tasks import Task


class ProtoNet(Learner):
    """A prototypical network; see `Learner` for the arguments. The network's ``head`` is taken off."""

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        model.head = nn.Identity()
        chosen = options or config.Engine()
        super().__init__(model, settings, chosen.model_copy(update={"layout": "task"}))

    def logits(self, task: Task) -> torch.Tensor:
        """``(queries, N+F)``: negative squared distances, in squared units of the embedding.

        Raises:
            ValueError: if a class has no support clip.
        """
        network, weights = self.engine.network(), list(self.engine.start(self.parameters()))
        embedded = network(weights, torch.cat([task.support_x, task.query_x]), "native")
        support, query = embedded.split([len(task.support_x), len(task.query_x)])
        members = F.one_hot(task.support_y, len(task.classes)).to(support.dtype)
        counts = members.sum(dim=0)
        if not counts.all():
            raise ValueError(f"no support clip of {task.classes[int(counts.argmin())]}; a prototypical network needs "
                             "fixed_support: true and tasks.fixed_shots")  # fmt: skip
        prototypes = members.T @ support / counts[:, None]
        return -(query[:, None] - prototypes).square().sum(dim=2)  # cdist has no gradient where two points meet

    def meta_gradient(self, group: Group) -> MetaGradient:
        """The gradient of the query loss by the embedding's parameters."""
        (task,) = group.tasks
        logits = self.logits(task)
        loss = F.cross_entropy(logits, task.query_y)
        gradients = torch.autograd.grad(loss, self.parameters())
        return report(gradients, Outcome(loss, loss, logits), group.query)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits; without adaptation."""
        with torch.no_grad():
            return self.logits(task)
