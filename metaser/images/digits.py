"""scikit-learn's bundled digits (UCI, Alpaydin and Kaynak 1998), where there is no MNIST: 1797 of them, 8 × 8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from metaser.corpora.base import Progress
from metaser.images.base import SIDE, ImageData, ImageSet
from metaser.images.mnist import part_of


class Digits(ImageSet):
    """About 180 of each digit, enlarged to 28 × 28; parts as MNIST's."""

    name = "digits"
    title = "scikit-learn's bundled digits"
    access = "scikit-learn brings it; nothing to fetch"
    bundled = True

    def load(self, folder: Path | None, progress: Progress | None = None) -> ImageData:
        """All of them."""
        from sklearn.datasets import load_digits

        found = load_digits()
        x = [Image.fromarray((255 / 16 * image).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
             for image in found.images]  # fmt: skip
        rows = [(f"digits#{row}", str(digit), "", part_of(digit)) for row, digit in enumerate(found.target)]
        return self.labelled(np.stack([np.asarray(image) for image in x]), rows)
