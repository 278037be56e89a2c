"""MNIST's training images (LeCun et al. 1998) as the tutorial uses them: the first 500 of each digit, 8 and 9 the target."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from metaser.corpora.base import Progress
from metaser.images.base import SIDE, ImageData, ImageSet
from metaser.runtime.errors import UserError, first_line

#: Digits that are trained on; the others are the target.
SOURCES, EACH = range(8), 500
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

#: The most images that a file may claim.
MOST = 1_000_000


def part_of(digit: int) -> str:
    """``source`` or ``target``."""
    return "source" if digit in SOURCES else "target"


class MNIST(ImageSet):
    """The IDX files, gzipped or not."""

    name = "mnist"
    title = "MNIST"
    access = f"fetch {IMAGES}.gz and {LABELS}.gz into a folder mnist"

    def load(self, folder: Path | None, progress: Progress | None = None) -> ImageData:
        """The first 500 images of each digit.

        Raises:
            UserError: naming the file, if one is missing, cannot be read, or has fewer of a digit.
        """
        assert folder is not None, "it is not bundled"
        images, labels = read_idx(folder, IMAGES, 3), read_idx(folder, LABELS, 1)
        if len(images) != len(labels) or images.shape[1:] != (SIDE, SIDE):
            shapes = f"{images.shape}, {labels.shape}"
            raise UserError(f"{folder}: {IMAGES} and {LABELS} do not belong together ({shapes})")
        rows = []
        for digit in range(10):
            here = np.flatnonzero(labels == digit)[:EACH]
            if len(here) < EACH:
                raise UserError(f"{folder}: {len(here)} images of {digit}, {EACH} are needed; {self.access}")
            rows.append(here)
        chosen = np.sort(np.concatenate(rows))
        digits = labels[chosen].tolist()
        return self.labelled(images[chosen], [(f"{folder / IMAGES}#{row}", str(digit), "", part_of(digit))
                                              for row, digit in zip(chosen, digits, strict=True)])  # fmt: skip


def read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """An IDX file of bytes as an array.

    Raises:
        UserError: naming it.
    """
    path = next((folder / f"{name}{end}" for end in ("", ".gz") if (folder / f"{name}{end}").is_file()), None)
    if path is None:
        raise UserError(f"{folder}: has neither {name} nor {name}.gz; {MNIST.access}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic, *shape = struct.unpack(f">{1 + dimensions}I", file.read(4 * (1 + dimensions)))
            if magic != 0x800 + dimensions or shape[0] > MOST or any(side > 1000 for side in shape[1:]):
                raise UserError(f"{path}: is no IDX file of {dimensions} dimension(s) of bytes; fetch it anew")
            size = int(np.prod(shape))
            content = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); fetch it anew") from None
    if len(content) != size:
        what = "more" if len(content) > size else "less"
        raise UserError(f"{path}: holds {what} than its header says; fetch it anew")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
