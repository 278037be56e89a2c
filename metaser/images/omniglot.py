"""Omniglot (Lake, Salakhutdinov, Tenenbaum, Science 350, 2015): 1623 characters of 50 alphabets, each drawn by 20 people.

1100 characters are trained on, 100 are for validation, 423 for the test, as in learn2learn's example; which is which is
in ``omniglot.csv``, once and for all, where that example shuffles them anew in every run. A character turned by 90, 180 or
270 degrees is another class (Vinyals et al. 2016), in the same part.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from metaser.corpora.base import Progress
from metaser.images.base import ImageData, ImageSet, shrunk
from metaser.runtime.errors import UserError, first_line

#: Below ``images_background`` and ``images_evaluation``: alphabet, character, drawing of which character by whom.
GRAMMAR = re.compile(r"images_(?:background|evaluation)/([^/]+)/(character\d\d)/\d{4}_(\d\d)\.png")
FOLDERS = ("images_background", "images_evaluation")

#: The official drawings' side in pixels, and the largest file that is read, in bytes; theirs have a few hundred.
DRAWN, LARGEST = 105, 1 << 20

TURNS = (0, 90, 180, 270)


class Omniglot(ImageSet):
    """The official tree of PNG files, or its two archives; nothing is unpacked."""

    name = "omniglot"
    title = "Omniglot"
    access = (
        "fetch images_background.zip and images_evaluation.zip from github.com/brendenlake/omniglot, folder python, into a folder "
        "omniglot"
    )

    def load(self, folder: Path | None, progress: Progress | None = None) -> ImageData:
        """Every drawing, turned four ways.

        Raises:
            UserError: naming the file, if an archive or a drawing cannot be read, or there are not all of them.
        """
        assert folder is not None, "it is not bundled"
        known, wanted = split(), 20 * len(split())
        x, rows = [], list[tuple[str, str, str, str]]()
        for path, (alphabet, character, drawer), content in drawings(folder):
            label = f"{alphabet}/{character}"
            if label not in known:
                raise UserError(f"{folder}: {path}: no character of Omniglot's is called {label}; remove it")
            drawing = decoded(f"{folder}: {path}", content)
            for turn in TURNS:
                x.append(np.rot90(drawing, turn // 90))
                rows.append((f"{folder / path}@{turn}", f"{label}@{turn}" if turn else label, drawer, known[label]))
            if progress:
                progress(len(x) // len(TURNS), wanted)
        if len(x) != len(TURNS) * wanted:
            found = len(x) // len(TURNS)
            raise UserError(f"{folder}: {found} drawings, where Omniglot has {wanted}; fetch it anew: {self.access}")
        return self.labelled(np.stack(x), rows)


def drawings(folder: Path) -> Iterator[tuple[str, tuple[str, str, str], bytes]]:
    """Every drawing's path in the folder, what its name says, and its bytes; sorted.

    Raises:
        UserError: if neither trees nor archives are there, or they cannot be read.
    """
    for name in FOLDERS:
        tree, archive = folder / name, folder / f"{name}.zip"
        try:
            with contextlib.ExitStack() as stack:
                if tree.is_dir():
                    members = [path.relative_to(folder).as_posix() for path in sorted(tree.glob("*/*/*.png"))]
                    above = ""
                elif archive.is_file():
                    file = stack.enter_context(zipfile.ZipFile(archive))
                    members, above = sorted(file.namelist()), f"{archive.name}/"
                else:
                    raise UserError(f"{folder}: has neither {name}/ nor {name}.zip; {Omniglot.access}")
                for member in members:
                    if match := GRAMMAR.fullmatch(member):
                        with file.open(member) if above else open(folder / member, "rb") as handle:
                            yield above + member, match.groups(), handle.read(LARGEST)  # type: ignore[misc]
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            place = archive if archive.is_file() else tree
            raise UserError(f"{place}: cannot be read ({first_line(error)}); fetch it anew") from None


def decoded(path: str, content: bytes) -> np.ndarray:
    """A drawing ``(28, 28)`` uint8, its ink 255.

    Raises:
        UserError: naming it, if it is no PNG of the size that all have.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (DRAWN, DRAWN):
                size = "{} × {}".format(*image.size)
                raise UserError(f"{path}: is {size} pixels, not {DRAWN} × {DRAWN}; fetch it anew")
            return 255 - shrunk(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as PNG ({first_line(error)}); fetch it anew") from None


@cache
def split() -> dict[str, str]:
    """Character, such as ``Greek/character01`` → ``train``, ``validation`` or ``test``."""
    text = resources.files("metaser.images").joinpath("omniglot.csv").read_text(encoding="utf-8")
    return {row["character"]: row["part"] for row in csv.DictReader(io.StringIO(text))}
