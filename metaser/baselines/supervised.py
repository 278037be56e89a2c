"""Supervised learning: one network for the clips of all sources at once, then fine-tuned on a task's support set, or not.

Training minimises the query loss at θ itself, ∇L_Q(θ): every meta-batch is a batch of clips, with no inner loop, so that
budget, data and optimiser are the meta-learners' own. Its outputs must mean the same class in every task
(``order: fixed``). Tested with ``test_steps: 0`` it is zero-shot transfer; with more, all layers or the head alone
(``layers``) take gradient steps on the support set. With ``iterations: 0`` it learns from the support set alone, which is
what "supervised" means in the text of arXiv 2101.01356 (its authors' code trains on the other languages instead).
"""

from __future__ import annotations

from typing import Literal

from metaser.algorithms.base import MetaGradient
from metaser.algorithms.inner import InnerSettings
from metaser.algorithms.maml import FOMAML
from metaser.engine import Group


class SupervisedSettings(InnerSettings):
    """Of supervised learning.

    Attributes:
        layers: What adapts when a task is tested.
    """

    layers: Literal["all", "head"] = "all"


class Supervised(FOMAML):
    """Supervised learning; see `Learner` for the arguments."""

    Settings = SupervisedSettings
    settings: SupervisedSettings

    def adapts(self, name: str) -> bool:
        """All parameters, or those of ``head``."""
        return self.settings.layers == "all" or name.startswith("head.")

    def meta_gradient(self, group: Group) -> MetaGradient:
        """∇L_Q(θ)."""
        return self.gradient(self.begin(group).query(group), group)
