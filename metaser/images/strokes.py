"""Invented characters, where there is no Omniglot: a few curved strokes each, drawn by twenty made-up hands.

A character is two to four strokes between random points of a grid. A hand has its own slant, size, width of pen and unsteadiness.
Numbers obtained on it say that a method works, never how well it does on Omniglot.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from metaser.corpora.base import Progress
from metaser.images.base import SIDE, ImageData, ImageSet, shrunk

SEED = 20151611
HANDS = 20

#: Characters per part.
PARTS = {"train": 60, "validation": 10, "test": 30}

#: Pixels of what is drawn, before it is made smaller; points along a stroke.
LARGE, POINTS = 4 * SIDE, 24


class Strokes(ImageSet):
    """A hundred characters by twenty hands."""

    name = "strokes"
    title = "invented characters"
    access = "metaser draws it itself; nothing to fetch"
    bundled = True
    generated = True

    def load(self, folder: Path | None, progress: Progress | None = None) -> ImageData:
        """All of them."""
        named = [(part, f"{part}{number:02}") for part, count in PARTS.items() for number in range(count)]
        places = [(place, hand) for place in range(len(named)) for hand in range(HANDS)]
        rows = [(f"{place}.{hand}", named[place][1], f"{hand:02}", named[place][0]) for place, hand in places]
        return self.labelled(np.stack([drawn(place, hand) for place, hand in places]), rows)


def drawn(character: int, hand: int) -> np.ndarray:
    """A character ``(28, 28)`` uint8 as a hand draws it; ink is 255."""
    plan, style = np.random.default_rng([SEED, 0, character]), np.random.default_rng([SEED, 1, hand])
    rng = np.random.default_rng([SEED, 2, character, hand])
    slant, size = style.normal(0, 0.15), style.uniform(0.75, 1.0)
    width, shake = style.uniform(5, 10), style.uniform(0.01, 0.05)
    image = Image.new("L", (LARGE, LARGE))
    pen = ImageDraw.Draw(image)
    for _ in range(plan.integers(2, 5)):
        ends = plan.integers(0, 4, size=(3, 2)) / 3 - 0.5  # from, towards, to
        ends = ends + rng.normal(0, shake, ends.shape)
        t = np.linspace(0, 1, POINTS)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * 1.5 * ends[1] + t**2 * ends[2]
        curve = 0.8 * size * np.stack([curve[:, 0] + slant * curve[:, 1], curve[:, 1]], axis=1)
        points = [tuple(point) for point in (LARGE * (curve + 0.5)).tolist()]
        pen.line(points, fill=255, width=round(width), joint="curve")
    return shrunk(image)
