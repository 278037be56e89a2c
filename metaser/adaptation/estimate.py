"""How good an adapted model is likely to be, from its own few clips: each is left out in turn and asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from metaser.adaptation.sound import Sound
from metaser.adaptation.support import Support

#: The normal distribution's 97.5 % quantile.
Z = 1.959963984540054

#: Clips up to which one is left out at a time; of more, a tenth.
ONE_BY_ONE, FOLDS = 40, 10


@dataclass(frozen=True)
class Estimate:
    """How many clips of how many were named correctly; the share's 95 % interval (Wilson 1927) takes them for independent.

    Attributes:
        right: Clips that were named correctly.
        clips: Clips that were asked.
        holds: For whom it holds.
    """

    right: int
    clips: int
    holds: str

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.right / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """Its lower and upper end: Wilson's equation; scipy.stats, which has it, takes a second to import."""
        p, n = self.share, self.clips
        middle, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + (Z / (2 * n)) ** 2)
        return max(0.0, (middle - half) / (1 + Z**2 / n)), min(1.0, (middle + half) / (1 + Z**2 / n))


def estimate(support: Support, probabilities: Callable[[Sound, Support], np.ndarray]) -> dict[str, Estimate]:
    """``clips left out``, where every class has two clips or more; ``speakers left out``, where all classes would still be there.

    Args:
        support: What a model is adapted to.
        probabilities: What it says of clips, ``(clips, answers)``, after adaptation to a part of these.

    Returns:
        By what was left out; empty where there are too few clips to tell.
    """
    found = {}
    for name, parts, holds in (
        ("clips left out", clips(support), scope(support)),
        ("speakers left out", speakers(support), "for speakers who are not in these clips"),
    ):
        right = total = 0
        for left_out in parts:
            rest = np.setdiff1d(np.arange(len(support.y)), left_out)
            says = probabilities(support.sound.part(left_out), support.part(rest)).argmax(axis=1)
            right += int((says == support.y.numpy()[left_out]).sum())
            total += len(left_out)
        if total:
            found[name] = Estimate(right, total, holds)
    return found


def scope(support: Support) -> str:
    """For whom an estimate holds that is of clips left out."""
    who = support.speakers
    if who.min() < 0:
        whom = "for the speakers of these clips only, whoever they are"
    else:
        whom = f"for the {'one speaker' if len(who.unique()) == 1 else 'speakers'} of these clips only"
    return f"{whom}; others are usually much harder"


def clips(support: Support) -> Iterator[np.ndarray]:
    """Rows to leave out together; none where a class would be lost."""
    y = support.y.numpy()
    fewest = int(np.unique(y, return_counts=True)[1].min())
    if fewest < 2:
        return
    if len(y) <= ONE_BY_ONE:
        yield from np.arange(len(y))[:, None]
        return
    from sklearn.model_selection import StratifiedKFold

    for _, rows in StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=0).split(y, y):
        yield np.asarray(rows)


def speakers(support: Support) -> Iterator[np.ndarray]:
    """The rows of one speaker after another, where all are known and all classes have clips of others."""
    who, y = support.speakers.numpy(), support.y.numpy()
    parts = [np.flatnonzero(who == one) for one in np.unique(who)]
    if who.min() >= 0 and len(parts) > 1 and all(set(np.delete(y, rows)) == set(y) for rows in parts):
        yield from parts
