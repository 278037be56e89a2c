"""The labelled clips that a model is adapted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from metaser.adaptation.sound import Sound


@dataclass(frozen=True)
class Support:
    """The clips that a model is adapted to.

    Attributes:
        sound: Their features, not normalised.
        y: ``(clips,)`` int64, their classes by number.
        speakers: ``(clips,)`` int64, who speaks, by number; -1 where nobody said.
    """

    sound: Sound
    y: torch.Tensor
    speakers: torch.Tensor

    def part(self, rows: np.ndarray) -> Support:
        """Some of the clips."""
        return Support(self.sound.part(rows), self.y[rows], self.speakers[rows])

    def fits(self, shape: tuple[int, int], classes: int) -> bool:
        """Whether all parts are there, of features of that shape, and of so many classes at most."""
        x, lengths = self.sound.x, self.sound.lengths
        return bool(
            x.dim() == 3 and x.shape[1:] == shape and x.dtype == torch.float32 and x.isfinite().all()
            and len(x) == len(lengths) == len(self.y) == len(self.speakers) > 0
            and lengths.dtype == self.y.dtype == self.speakers.dtype == torch.int64
            and lengths.dim() == self.y.dim() == self.speakers.dim() == 1 and lengths.min() >= 1 and lengths.max() <= shape[1]
            and self.y.min() >= 0 and self.y.max() < classes
        )  # fmt: skip
