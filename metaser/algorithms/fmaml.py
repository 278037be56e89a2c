"""F-MAML, "Fixed-MAML" (Naman, Sinha, Mancini 2021, arXiv 2101.01356).

MAML on N+F-way tasks: the F fixed classes (silence, neutral) are known for good, so they are asked in every query set and
are in no support set, and they own the last F outputs in every task. The inner loop therefore never sees them; the
outer loop alone teaches them. The paper describes second-order MAML, its authors' code computes the first-order
gradient (`torch.autograd.grad` without ``create_graph``): `first_order` chooses.
"""

from __future__ import annotations

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import MetaGradient
from metaser.algorithms.maml import MAML
from metaser.engine import Group
from metaser.tasks import Task


class FMAML(MAML):
    """MAML or FOMAML held to N+F-way tasks; see `Learner` for the arguments."""

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        self.first_order = settings.first_order
        super().__init__(model, settings, options)

    def meta_gradient(self, group: Group) -> MetaGradient:
        """As MAML or FOMAML, on tasks with fixed classes.

        Raises:
            ValueError: if a task is not N+F-way.
        """
        for task in group.tasks:
            check(task)
        return super().meta_gradient(group)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits ``(queries, N+F)`` after adaptation.

        Raises:
            ValueError: if the task is not N+F-way.
        """
        check(task)
        return super().predict(task)


def check(task: Task) -> None:
    """Refuses a task without fixed classes, or with one of them in its support set."""
    if task.fixed < 1:
        raise ValueError("F-MAML needs tasks with at least one fixed class; set tasks.fixed")
    if int(task.support_y.max()) >= task.ways:
        raise ValueError("a fixed class is in the support set; fixed classes belong in the query set only")
