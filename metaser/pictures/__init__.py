"""Sets of pictures by name, for the experiments that are not of speech. A new one is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaser.corpora.base import Progress
from metaser.errors import UserError, nearest
from metaser.pictures.base import Pictures, PictureSet
from metaser.pictures.digits import Digits
from metaser.pictures.mnist import MNIST
from metaser.pictures.omniglot import Omniglot
from metaser.pictures.strokes import Strokes

if TYPE_CHECKING:
    from metaser import config
    from metaser.corpora.selection import Selection

__all__ = ["PICTURES", "PictureSet", "Pictures", "select"]

PICTURES: dict[str, PictureSet] = {entry.name: entry for entry in (Omniglot(), Strokes(), MNIST(), Digits())}


def select(settings: config.Data, root: Path | None, progress: Progress | None = None) -> tuple[Selection, Pictures]:
    """The first set of pictures that is there.

    Args:
        settings: Names the sets, in order of preference.
        root: The data root, or None.
        progress: Called with (pictures read, pictures in all).

    Raises:
        UserError: if no set is there, or one cannot be read.
    """
    from metaser.corpora.selection import Selection  # not above: `metaser data list` selects nothing

    reasons = []
    for name in settings.pictures:
        if name not in PICTURES:
            raise UserError(f"data.pictures: unknown set {name!r}; {nearest(name, PICTURES)}")
        chosen = PICTURES[name]
        folder = chosen.folder(root)
        if folder is None and not chosen.bundled:
            reasons.append(f"no folder {name!r}: {chosen.access}")
            continue
        pictures = chosen.load(folder, progress)
        domains = tuple(dict.fromkeys(pictures.table["domain"]))
        kind = "synthetic" if chosen.generated else "bundled" if chosen.bundled else "real"
        titles = {part: f"{part} ({chosen.title})" for part in domains}
        return Selection(chosen.title, kind, pictures.table, domains, titles, unit="pictures"), pictures
    raise UserError(f"{f'METASER_DATA={root}' if root else 'METASER_DATA is not set'}: {'; '.join(reasons)}")
