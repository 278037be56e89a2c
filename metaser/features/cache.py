"""The cache of features: one small file per clip and recipe, so that a new or changed clip costs that clip alone.

A file is named by the SHA-256 of the clip's contents and lies in a folder of its recipe's: the same clip is found wherever it
lies, whatever it is called, and whichever table asks for it. Processes, users and machines may share one cache: a file is whole
or absent, what two of them write at once is the same, and what is damaged is computed again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from metaser.features.base import Recipe
from metaser.runtime.files import cache_folder, remove_unfinished, replacing, subfolder

#: Part of the recipes' keys; goes up whenever the same recipe would give other numbers than before.
FORMAT = 1

#: A temporary file this old, in s, was left by a process that was killed: writing one takes milliseconds.
STALE = 3600.0

#: Of the checksum at the end of each file.
BYTES = 4


class Cache:
    """The features that one recipe gives.

    Args:
        recipe: The recipe.

    Raises:
        UserError: if the cache cannot be written, or the recipe needs weights that are not there.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._key = hashlib.sha256(json.dumps([FORMAT, asdict(recipe)], sort_keys=True).encode())
        self._key.update(recipe.identity())
        self._coefficients = recipe.shape[0]
        self.folder = cache_folder("features", self._key.hexdigest())
        remove_unfinished(self.folder, older_than=STALE)

    def digest(self, clips: Iterable[bytes]) -> str:
        """SHA-256 of the recipe and of clips' contents, in order, from their own digests."""
        key = self._key.copy()
        for clip in clips:
            key.update(clip)
        return key.hexdigest()

    def read(self, clip: bytes) -> np.ndarray | None:
        """The valid frames ``(coefficients, frames)`` float32 of a clip; None where they are not there, or damaged.

        Args:
            clip: The SHA-256 of its contents.
        """
        try:
            content = self._path(clip).read_bytes()
        except OSError:
            return None
        values, checksum = content[:-BYTES], content[-BYTES:]
        if not values or checksum != _checksum(clip, values) or len(values) % (4 * self._coefficients):
            return None
        return np.frombuffer(values, dtype="<f4").reshape(self._coefficients, -1)

    def write(self, clip: bytes, frames: np.ndarray) -> None:
        """Keeps what `read` gives.

        Raises:
            UnwritableError: if the disk is full or the cache cannot be written.
        """
        values, path = frames.astype("<f4").tobytes(), self._path(clip)
        subfolder(self.folder, path.parent.name)
        # Not synced to the disk: that takes longer than most clips' features, and what a power failure damages is noticed.
        with replacing(path, beside=self.folder, synced=False) as temporary:
            temporary.write_bytes(values + _checksum(clip, values))

    def _path(self, clip: bytes) -> Path:
        name = clip.hex()
        return self.folder / name[:2] / name


def _checksum(clip: bytes, values: bytes) -> bytes:
    """Of the clip's digest, too: a file under another clip's name is damage."""
    return zlib.crc32(values, zlib.crc32(clip)).to_bytes(BYTES, "little")
