"""Who speaks in a task's support set, so that nobody speaks on both sides (``tasks.speakers: disjoint``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metaser.runtime.errors import UserError
from metaser.tasks.clips import Clips, among
from metaser.tasks.shape import TaskShape

#: Random divisions of the speakers that are tried for one task.
DIVISIONS = 50


class SpeakerDivision:
    """Divides a domain's speakers between support and query set.

    Args:
        domain: The domain.
        clips: Class → clips.
        shape: The tasks' shape.

    Attributes:
        names: The classes that are divided: those that are the domain's own, since shared clips have speakers of their own.
        codes: ``(speakers,)``, the codes of who speaks in them.
        counts: ``(classes, speakers)`` clips.

    Raises:
        UserError: as `draw`.
    """

    def __init__(self, domain: str, clips: Mapping[str, Clips], shape: TaskShape) -> None:
        self.domain, self.shape = domain, shape
        emotional = np.unique(np.concatenate([own.speakers for name, own in clips.items() if name not in shape.fixed]))
        divided = {name: own for name, own in clips.items()
                   if name not in shape.fixed or among(own.speakers, emotional).any()}  # fmt: skip
        self.names = tuple(divided)
        self.codes = np.unique(np.concatenate([own.speakers for own in divided.values()]))
        self.counts = np.stack([(own.speakers[:, None] == self.codes).sum(axis=0) for own in divided.values()])
        self._shots, self._queries = (
            np.array([of(name) for name in divided]) for of in (shape.shots_of, shape.queries_of)
        )
        self.draw(np.random.default_rng(0))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Codes of the support set's speakers: few enough to leave all others to the query set, enough for K clips a class.

        Raises:
            UserError: naming the class for which no division leaves enough clips.
        """
        best, best_share, worst, left_for_worst = None, -1.0, 0, 0
        for _ in range(DIVISIONS):
            order = rng.permutation(len(self.codes))
            supplied = self.counts[:, order].cumsum(axis=1)
            enough = (supplied >= self._shots[:, None]).all(axis=0)
            if not enough.any():
                break
            size = int(enough.argmax()) + 1
            left = supplied[:, -1] - supplied[:, size - 1]
            shares = left / self._queries
            if shares.min() > best_share:
                best, best_share, worst = self.codes[order[:size]], float(shares.min()), int(shares.argmin())
                left_for_worst = int(left[worst])
            if best_share >= 1:
                break
        least = self.shape.least_of(self.names[worst])
        if best is None or left_for_worst < least:
            raise UserError(
                f"{self.domain}: class {self.names[worst]} has too few clips for {self.shape.shots} support + {least} query "
                f"clips of other speakers ({len(self.codes)} speakers); lower tasks.shots or use speakers: mixed"
            )
        return best

    def with_lent(self, speakers: np.ndarray, lent: Clips, rng: np.random.Generator) -> np.ndarray:
        """The support set's speakers, and of a lent class's own the fewest random ones who have its shots."""
        names, counts = np.unique(lent.speakers, return_counts=True)
        order = rng.permutation(len(names))
        size = int((counts[order].cumsum() >= self.shape.shots_of(lent.name)).argmax()) + 1
        return np.concatenate([speakers, names[order[:size]]])
