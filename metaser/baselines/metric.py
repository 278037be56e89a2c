"""What metric learners share: an embedding, the network without its head, in which query clips are compared with support clips.

Nothing adapts; the meta-gradient is that of the query loss by the embedding. Every class must be in the support set, so on tasks
with fixed classes ``fixed_support: true`` is needed.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient, report
from metaser.algorithms.fitting import linear_head
from metaser.engine import Group, Outcome
from metaser.tasks import Task


class MetricLearner(Learner):
    """A metric learner; see `Learner` for the arguments. The network's ``head`` is taken off.

    Attributes:
        width: Of the embedding.
    """

    Settings = config.Pretrained

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        self.width = linear_head(model, "a metric learner").in_features
        model.head = nn.Identity()
        chosen = options or config.Engine()
        super().__init__(model, settings, chosen.model_copy(update={"layout": "task"}))

    def read_out(self, classes: int) -> nn.Module:
        """A last layer on the embedding, which has none of its own."""
        return nn.Linear(self.width, classes)

    @abstractmethod
    def compare(self, support: torch.Tensor, member: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Logits ``(queries, classes)``.

        Args:
            support: Embedded support clips ``(clips, width)``.
            member: ``(clips, classes)``: 1 where a clip is of a class.
            query: Embedded query clips ``(queries, width)``.
        """

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What training minimises."""
        return F.cross_entropy(logits, labels)

    def logits(self, task: Task) -> torch.Tensor:
        """``(queries, N+F)``.

        Raises:
            ValueError: if a class has no support clip.
        """
        embedded = self.engine.module(torch.cat([task.support_x, task.query_x]))
        support, query = embedded.split([len(task.support_x), len(task.query_x)])
        member = F.one_hot(task.support_y, len(task.classes)).to(support.dtype)
        counts = member.sum(dim=0)
        if not counts.all():
            raise ValueError(f"no support clip of {task.classes[int(counts.argmin())]}; a metric learner needs "
                             "fixed_support: true and tasks.fixed_shots")  # fmt: skip
        return self.compare(support, member, query)

    def meta_gradient(self, group: Group) -> MetaGradient:
        """The gradient of the query loss."""
        (task,) = group.tasks
        logits = self.logits(task)
        loss = self.loss(logits, task.query_y)
        return report(torch.autograd.grad(loss, list(self.parameters())), Outcome(loss, loss, logits), group.query)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits; without adaptation."""
        with torch.no_grad():
            return self.logits(task)
