"""MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400) and its first-order variant, on `learn2learn.algorithms.MAML`.

Inner loop, k steps on the support loss: φ₀ = θ, φⱼ₊₁ = φⱼ − α ∇L_S(φⱼ).
MAML's meta-gradient:   d L_Q(φ_k(θ)) / dθ, through the inner loop (their equation 1).
FOMAML's meta-gradient: ∇L_Q at φ_k, the inner loop's derivative taken as the identity (their section 5.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import Learner, MetaGradient
from metaser.engine import Group, Outcome, Slopes, TaskEngine, Weights
from metaser.errors import UserError
from metaser.learn2learn import l2l
from metaser.tasks import Task


@dataclass(frozen=True)
class Adapted:
    """Where the inner loop went.

    Attributes:
        path: φ₀ … φ_k.
        slopes: ∇L_S(φ₀) … ∇L_S(φ_{k−1}).
        outcome: The support set's at φ_{k−1}; None without a step.
    """

    path: list[Weights]
    slopes: list[Slopes]
    outcome: Outcome | None


class MAML(Learner):
    """Second-order MAML; see `Learner` for the arguments.

    Attributes:
        maml: θ in learn2learn's own form, for its idiom: ``clone()``, ``adapt(loss)``, ``backward()``.
    """

    first_order = False
    stepwise = True
    #: Whether second derivatives pass through the network's body; if not, its layers need not provide any.
    through_body = True

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        if settings.statistics == "support" and not isinstance(self.engine, TaskEngine):
            raise UserError("statistics: support goes one task at a time; use engine.layout: task")
        self.maml = l2l.algorithms.MAML(model, lr=settings.inner_lr, first_order=self.first_order)

    def adapts(self, name: str) -> bool:
        """Whether the inner loop changes the parameter of that name."""
        return True

    def adapt(
        self, group: Group, start: Weights, steps: int, keep: bool, rate: float | Weights | None = None
    ) -> Adapted:
        """The inner loop.

        Args:
            group: The tasks.
            start: φ₀.
            steps: k.
            keep: Keep the graph from φ₀ to φ_k, for second order.
            rate: α, or one tensor of rates per parameter; the settings' when not given.
        """
        path, slopes, outcome = [start], [], None
        for step in self.inner_loop(group, start, steps, keep, rate):
            outcome, slope, weights = step
            slopes.append(slope)
            path.append(weights)
        return Adapted(path, slopes, outcome)

    def adapted(self, group: Group, start: Weights, steps: int, rate: float | Weights | None = None) -> Weights:
        """φ_k alone, in the memory of one step however many there are; see `adapt` for the arguments."""
        last = deque(self.inner_loop(group, start, steps, keep=False, rate=rate), maxlen=1)
        return last[0][2] if last else start

    def inner_loop(
        self, group: Group, start: Weights, steps: int, keep: bool, rate: float | Weights | None = None
    ) -> Iterator[tuple[Outcome, Slopes, Weights]]:
        """Of each step: the support set's outcome at φⱼ, ∇L_S(φⱼ), and φⱼ₊₁; see `adapt` for the arguments."""
        chosen = [self.adapts(name) for name in self.engine.names]
        rate = self.settings.inner_lr if rate is None else rate
        weights = start
        for _ in range(steps):
            outcome = self.engine.outcome(weights, group.support, twice=keep and self.through_body)
            slopes = self.engine.slopes(outcome, weights, chosen, keep)
            weights = self.engine.step(weights, slopes, rate, keep)
            yield outcome, slopes, weights

    def meta_gradient(self, group: Group) -> MetaGradient:
        """d L_Q(φ)/dθ for MAML, ∇L_Q(φ) for FOMAML."""
        start = self.engine.start(self.parameters())
        exact = self.engine.options.curvature == "exact"
        adapted = self.adapt(group, start, self.settings.steps, keep=not self.first_order and exact)
        if self.first_order:
            return self.query_gradient(group, adapted.path[-1])
        return self.query_gradient(group, adapted.path[-1], start) if exact else self.by_differences(group, adapted)

    def by_differences(self, group: Group, adapted: Adapted) -> MetaGradient:
        """d L_Q(φ)/dθ by v ← v − α Hⱼ v from ∇L_Q(φ_k) back to θ, with products Hⱼ v from differences of gradients."""
        assert isinstance(self.engine, TaskEngine)
        last = self.query_gradient(group, adapted.path[-1])
        v = last.gradients
        for weights in reversed(adapted.path[:-1]):
            product = self.engine.hessian_product(weights, group.support, v)
            v = tuple(a - self.settings.inner_lr * b for a, b in zip(v, product, strict=True))
        return MetaGradient(v, last.losses, last.accuracies)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation; nothing is differentiated through it, so first order suffices."""
        group = self.engine.group([task])
        weights = self.adapted(group, self.engine.start(self.parameters()), self.settings.testing)
        with torch.no_grad():
            if self.settings.statistics == "support":
                assert isinstance(self.engine, TaskEngine), "checked when it was built"
                return self.engine.conditioned(weights, group)
            return self.engine.outcome(weights, group.query).logits.flatten(0, -2)


class FOMAML(MAML):
    """First-order MAML."""

    first_order = True
