"""ANIL, "almost no inner loop" (Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157).

MAML whose inner loop adapts the head alone; the outer loop learns body and head. The network names its head ``head``.
"""

from __future__ import annotations

from metaser.algorithms.maml import MAML


class ANIL(MAML):
    """Second-order ANIL; see `Learner` for the arguments."""

    through_body = False

    def adapts(self, name: str) -> bool:
        """Only the parameters of ``head``."""
        return name.startswith("head.")
