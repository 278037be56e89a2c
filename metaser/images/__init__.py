"""Sets of images by name, for the experiments that are not of speech. A new one is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaser.corpora.base import Progress
from metaser.images.base import ImageData, ImageSet
from metaser.images.digits import Digits
from metaser.images.mnist import MNIST
from metaser.images.omniglot import Omniglot
from metaser.images.strokes import Strokes
from metaser.runtime.errors import UserError, nearest

if TYPE_CHECKING:
    from metaser import config
    from metaser.corpora.selection import Selection

__all__ = ["IMAGE_SETS", "ImageData", "ImageSet", "select"]

IMAGE_SETS: dict[str, ImageSet] = {entry.name: entry for entry in (Omniglot(), Strokes(), MNIST(), Digits())}


def select(settings: config.Data, root: Path | None, progress: Progress | None = None) -> tuple[Selection, ImageData]:
    """The first set of images that is there.

    Args:
        settings: Names the sets, in order of preference.
        root: The data root, or None.
        progress: Called with (images read, images in all).

    Raises:
        UserError: if no set is there, or one cannot be read.
    """
    from metaser.corpora.selection import Selection  # not above: `metaser data list` selects nothing

    reasons = []
    for name in settings.images:
        if name not in IMAGE_SETS:
            raise UserError(f"data.images: unknown set {name!r}; {nearest(name, IMAGE_SETS)}")
        chosen = IMAGE_SETS[name]
        folder = chosen.folder(root)
        if folder is None and not chosen.bundled:
            reasons.append(f"no folder {name!r}: {chosen.access}")
            continue
        images = chosen.load(folder, progress)
        domains = tuple(dict.fromkeys(images.table["domain"]))
        kind = "synthetic" if chosen.generated else "bundled" if chosen.bundled else "real"
        titles = {part: f"{part} ({chosen.title})" for part in domains}
        return Selection(chosen.title, kind, images.table, domains, titles, unit="images"), images
    raise UserError(f"{f'METASER_DATA={root}' if root else 'METASER_DATA is not set'}: {'; '.join(reasons)}")
