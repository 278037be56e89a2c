"""The one shape of every algorithm: adapt to a task's support set, and give that task's meta-gradient.

For every task of a meta-batch a clone of the learner adapts on the support set and yields a meta-gradient; the training
loop averages them and steps the outer optimiser. Algorithms differ in `Learner.meta_gradient` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.tasks import Task


@dataclass(frozen=True)
class MetaGradient:
    """What one task contributes to a meta-iteration.

    Attributes:
        gradients: One descent direction per parameter of `Learner.parameters`, in their order and shapes.
        loss: Mean cross-entropy, after adaptation, of the clips that the meta-gradient is of: the query set, or the support
            set where the algorithm has no use for a query set.
        correct: How many of these clips are classified rightly.
        queries: How many they are.
    """

    gradients: tuple[torch.Tensor, ...]
    loss: float
    correct: int
    queries: int


class Learner(ABC):
    """A network with a way to adapt it.

    Both methods leave the learner's own parameters alone and may be called from several threads at once.

    Args:
        model: The network; its parameters are what is meta-learned.
        settings: Inner learning rate α, steps, and what else the algorithm reads.
    """

    def __init__(self, model: nn.Module, settings: config.Algorithm) -> None:
        self.model = model
        self.settings = settings

    def parameters(self) -> list[nn.Parameter]:
        """θ, everything that the outer loop learns."""
        return list(self.model.parameters())

    @abstractmethod
    def meta_gradient(self, task: Task) -> MetaGradient:
        """The task's meta-gradient at the current parameters."""

    @abstractmethod
    def predict(self, task: Task) -> torch.Tensor:
        """Logits ``(queries, N+F)`` of the query set after `config.Algorithm.test_steps` of adaptation."""


def query_gradient(network: nn.Module, task: Task, parameters: Sequence[nn.Parameter]) -> MetaGradient:
    """The gradient of ``network``'s query loss with respect to ``parameters``, which it depends on."""
    logits = network(task.query_x)
    loss = cross_entropy(logits, task.query_y)
    gradients = torch.autograd.grad(loss, list(parameters))
    return MetaGradient(gradients, loss.item(), correct(logits, task.query_y), len(task.query_y))


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits ``(clips, outputs)`` against labels ``(clips,)``."""
    return F.cross_entropy(logits, labels)


def correct(logits: torch.Tensor, labels: torch.Tensor) -> int:
    """How many of the clips get their own label the largest logit."""
    return int((logits.argmax(dim=1) == labels).sum())
