"""The files of a corpus: what lies below its folder, by name alone."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from metaser.runtime.errors import UserError

#: The audio file extensions that are read, lower case.
EXTENSIONS = (".wav", ".flac")


def folder_below(root: Path, name: str) -> Path | None:
    """The folder of that name, in any case, below the data root; None when there is none.

    Raises:
        UserError: if the root cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if is_folder(entry))
    except OSError as error:
        raise UserError(f"data root {root} cannot be read ({error.strerror})") from None
    return next((root / found for found in names if found.lower() == name), None)


def files_below(folder: Path, extensions: Collection[str] = EXTENSIONS) -> list[PurePosixPath]:
    """The first list of `sorted_out`: the files with one of the extensions."""
    return sorted_out(folder, extensions)[0]


def sorted_out(folder: Path, extensions: Collection[str]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """The files below ``folder`` with one of the extensions (lower case; in any case), and what is left out.

    Left out are other files, hidden files and folders (and macOS's ``._`` twins), and pipes and the like, which would block
    whoever opened them. Links are followed, broken ones listed. A folder that is reached in several ways is listed once, by
    its own path rather than a link's.

    Returns:
        Both relative to ``folder``, sorted.

    Raises:
        UserError: if a folder cannot be read.
    """
    found, left_out, seen = list[PurePosixPath](), list[PurePosixPath](), set[tuple[int, int]]()
    pending, linked = [os.fspath(folder)], list[str]()
    while pending or linked:  # no recursion, for folders may lie deeper than Python recurses
        here = pending.pop() if pending else linked.pop(0)  # links last
        try:
            status = os.stat(here)
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"corpus folder {here} cannot be read ({error.strerror}); check its permissions") from None
        if (status.st_dev, status.st_ino) in seen:  # so that links in a circle end
            continue
        seen.add((status.st_dev, status.st_ino))
        below = []
        for entry in entries:
            relative = PurePosixPath(os.path.relpath(entry.path, folder))
            if not is_folder(entry):
                wanted = os.path.splitext(entry.name)[1].lower() in extensions and not entry.name.startswith(".")
                there = os.path.isfile(entry.path) or not os.path.exists(entry.path)
                (found if wanted and there else left_out).append(relative)
            elif entry.name.startswith((".", "__MACOSX")):
                left_out.append(relative)
            else:
                below.append(entry)
        linked += [entry.path for entry in below if entry.is_symlink()]
        pending += [entry.path for entry in reversed(below) if not entry.is_symlink()]
    return sorted(found), sorted(left_out)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
