"""Reg-MAML (Chandra, "Modification in meta-learning for low-resource SER", equations 3 to 6).

Meta-gradient ∇L_Q(φ) + λ (∇L_Q(φ) − ∇L_Q(θ))/α, which is (1 + l) ∇L_Q(φ) − l ∇L_Q(θ) with l = λ/α. With one inner step
the quotient is −H₁G₀ + O(α) (H₁: Hessian of L_Q, G₀: ∇L_S, both at θ), so the whole is ∇L_Q(θ) − (α + λ) H₁G₀ + …:

- λ = 0 is FOMAML; λ = α has the weight that MAML gives to the alignment of G₀ and G₁ in expectation;
- λ = −α is ∇L_Q(θ), joint training, exactly;
- λ > 0 adds weight to −H₁G₀: descending rewards the alignment of support and query gradients. It can also reward
  gradients that grow without bound, and diverge: training says so, and `training.clip_norm` is an option.

The report writes one α for both loops; the one that divides here is the inner learning rate, or the quotient would not
be the derivative that it stands for.
"""

from __future__ import annotations

from pydantic import model_validator

from metaser.algorithms.base import MetaGradient
from metaser.algorithms.inner import InnerSettings
from metaser.algorithms.maml import FOMAML
from metaser.config import Number
from metaser.engine import Group


class RegMAMLSettings(InnerSettings):
    """Of Reg-MAML: λ, which the method is about, has to be given.

    Attributes:
        lambda_ratio: l = λ/α; 0 is FOMAML.
        lambda_: λ itself, instead.
    """

    lambda_ratio: Number | None = None
    lambda_: Number | None = None

    @model_validator(mode="after")
    def _one_lambda(self) -> RegMAMLSettings:
        if self.lambda_ is None and self.lambda_ratio is None:
            raise ValueError("regmaml needs λ: set lambda_ratio (λ/α; 0 is FOMAML) or lambda_")
        if self.lambda_ is not None and self.lambda_ratio is not None:
            raise ValueError("give lambda_ or lambda_ratio, not both")
        return self


class RegMAML(FOMAML):
    """Reg-MAML with l = λ/α from ``lambda_ratio``, or λ itself from ``lambda_``; see `Learner` for the arguments."""

    Settings = RegMAMLSettings
    settings: RegMAMLSettings

    @property
    def ratio(self) -> float:
        """l = λ/α."""
        if self.settings.lambda_ is not None:
            return self.settings.lambda_ / self.settings.inner_lr
        return self.settings.lambda_ratio or 0.0

    def meta_gradient(self, group: Group) -> MetaGradient:
        """(1 + l) ∇L_Q(φ) − l ∇L_Q(θ)."""
        learner, ratio = self.begin(group), self.ratio
        before = self.gradient(learner.query(group), group)  # ∇L_Q(θ)
        for _ in range(self.settings.steps):
            learner.adapt(learner.inner_loss(group))
        after = self.gradient(learner.query(group), group)  # ∇L_Q(φ)
        pairs = zip(after.gradients, before.gradients, strict=True)
        return MetaGradient(tuple((1 + ratio) * a - ratio * b for a, b in pairs), after.losses, after.accuracies)
