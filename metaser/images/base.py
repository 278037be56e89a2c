"""What a set of images is: characters or digits, each a class, in parts that are trained on and parts that are tested on."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from metaser.corpora.base import COLUMNS, Progress
from metaser.corpora.files import folder_below

if TYPE_CHECKING:  # and below where they are used: `metaser data list` needs neither
    import pandas as pd
    import torch

#: Height and width of every image, in pixels.
SIDE = 28


@dataclass(frozen=True)
class ImageData:
    """Images, and a table row for each.

    Attributes:
        x: ``(images, 28, 28)`` uint8; 255 is ink.
        table: Columns of `metaser.corpora.base.COLUMNS` and ``domain``: ``emotion`` is the class, ``speaker`` who drew it,
            ``domain`` the part.
    """

    x: torch.Tensor
    table: pd.DataFrame

    @property
    def digest(self) -> str:
        """SHA-256 of all images and their classes, in order."""
        found = hashlib.sha256(self.x.numpy().tobytes())
        found.update("\0".join(self.table["emotion"]).encode())
        return found.hexdigest()


class ImageSet(ABC):
    """A set of images.

    Attributes:
        name: The registry's name, and that of its folder (any case) below the data root.
        title: Its full name.
        access: How a user gets it, one sentence.
        bundled: Whether nothing has to be fetched: it stands in for another one.
        generated: Whether metaser draws it itself.
    """

    name: str
    title: str
    access: str
    bundled: bool = False
    generated: bool = False

    def folder(self, root: Path | None) -> Path | None:
        """Its folder below ``root``; None when there is none.

        Raises:
            UserError: if the root cannot be read.
        """
        return None if root is None else folder_below(root, self.name)

    @abstractmethod
    def load(self, folder: Path | None, progress: Progress | None = None) -> ImageData:
        """All its images.

        Args:
            folder: Where it is; None for one that is bundled.
            progress: Called with (images read, images in all).

        Raises:
            UserError: naming the file, if it is not what its owners distribute.
        """

    def labelled(self, x: np.ndarray, rows: Iterable[tuple[str, str, str, str]]) -> ImageData:
        """Images ``(images, 28, 28)`` uint8 with their table; of each its path, its class, who drew it, and its part."""
        import pandas as pd
        import torch

        table = pd.DataFrame([(path, self.name, "", drawer, "", label, "", f"{self.name}/{path}", part)
                              for path, label, drawer, part in rows], columns=[*COLUMNS, "domain"])  # fmt: skip
        return ImageData(torch.from_numpy(np.ascontiguousarray(x)), table)


def shrunk(image: Image.Image) -> np.ndarray:
    """An image as ``(28, 28)`` uint8 of the same tones, by Lanczos's filter, as learn2learn's example has it."""
    if image.size != (SIDE, SIDE):
        image = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("L"), dtype=np.uint8)
