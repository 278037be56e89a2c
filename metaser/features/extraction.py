"""A table of utterances → one array of features: all clips checked first, then each computed once, in parallel, and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from metaser.corpora.audio import decoded, open_clip, read_waveform
from metaser.features import storage
from metaser.features.base import Recipe
from metaser.features.cache import Cache
from metaser.features.clip import checked
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import available_cores

#: The most clips that one message names.
NAMED = 10

#: Clips that are handed to the threads at a time.
BATCH = 1024

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FeatureSet:
    """The features of a table's utterances, row by row.

    An array of 256 MiB or more lies in a file without a name, which is mapped into memory (`metaser.features.storage`). A
    forked process shares it. Any other process should call `extract` again rather than be sent the array: from the cache that
    takes well under a second for some thousand clips, and gives the same bits.

    Attributes:
        x: ``(utterances, coefficients, frames)`` float32; 0 in padding frames.
        lengths: ``(utterances,)`` int64, valid frames, at least 1 each.
        table: One row per utterance, with the columns of `metaser.corpora.base.COLUMNS`, and a fresh index.
        name: The name of the recipe that they were computed by.
        digest: SHA-256 of the files' contents, in order, and of the recipe.
    """

    x: torch.Tensor
    lengths: torch.Tensor
    table: pd.DataFrame
    name: str
    digest: str = ""


def extract(
    table: pd.DataFrame,
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> FeatureSet:
    """The features of all utterances of a table, from the cache where they were computed before.

    Before anything is computed, every clip that is not in the cache is decoded and checked. Each clip's features are in the
    cache as soon as they are computed, so that work that is stopped goes on where it was.

    Args:
        table: One row per utterance; ``path`` is where its clip lies.
        recipe: What to compute.
        progress: Called with the clips computed and those to compute, after each one; once with the table's length when all
            come from the cache. Clips with the same contents count once.
        workers: Threads; None for one per core. The result does not depend on it.

    Returns:
        ``x`` is ``(utterances, coefficients, frames)``, in the table's order.

    Raises:
        UserError: if the table has no rows; if clips are missing, no regular files, unreadable, empty, too long or not finite
            (naming all of them, or the first `NAMED`); or if the cache cannot be written.
    """
    paths = [str(path) for path in table["path"]]
    if not paths:
        raise UserError("no utterances to extract features from; choose a corpus or a filter that leaves some")
    with threads(workers) as pool:
        cache, files = Cache(recipe), list(dict.fromkeys(paths))
        clips, faults = digests(pool, files)
        array = Array([clips.get(path, b"") for path in paths], recipe.shape)

        def load(path: str) -> bool:
            frames = cache.read(clips[path])
            if frames is not None:
                array.put(clips[path], frames)
            return frames is not None

        def compute(path: str) -> None:
            features, valid = checked(read_waveform(path, recipe.rate), recipe, path)
            frames = features[:, :valid].numpy()
            cache.write(clips[path], frames)
            array.put(clips[path], frames)

        known = list({clip: path for path, clip in clips.items()}.values())
        found = {clips[path] for path, there in zip(known, in_order(pool, load, known), strict=True) if there}
        left = [path for path, clip in clips.items() if clip not in found]
        faults |= {path: error for path, error in zip(left, in_order(pool, fault, left), strict=True) if error}
        if faults:
            raise together([faults[path] for path in files if path in faults])
        left = [path for path in known if clips[path] not in found]
        for done, _ in enumerate(in_order(pool, compute, left), start=1):
            if progress:
                progress(done, len(left))
        if progress and not left:
            progress(len(paths), len(paths))
    digest = cache.digest(clips[path] for path in paths)
    return FeatureSet(array.x, array.lengths, table.reset_index(drop=True), recipe.name, digest)


class Array:
    """The array that clips' features are put into.

    Args:
        clips: The SHA-256 of each row's contents.
        shape: ``(coefficients, frames)``.

    Attributes:
        x: ``(rows, coefficients, frames)`` float32.
        lengths: ``(rows,)``, valid frames.
    """

    def __init__(self, clips: Sequence[bytes], shape: tuple[int, int]) -> None:
        self.x, self.lengths = storage.zeros(len(clips), *shape), torch.zeros(len(clips), dtype=torch.int64)
        self._values, self._used = self.x.numpy(), storage.releasing(self.x)
        self._rows: dict[bytes, list[int]] = {}
        for row, clip in enumerate(clips):
            self._rows.setdefault(clip, []).append(row)

    def put(self, clip: bytes, frames: np.ndarray) -> None:
        """Fills the rows of a clip with its valid frames ``(coefficients, valid)``."""
        rows, valid = self._rows[clip], frames.shape[1]
        self._values[rows, :, :valid], self.lengths[rows] = frames, valid
        self._used(len(rows))


@contextmanager
def threads(workers: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool in which torch uses one thread per worker: torch's own threads would only get in the workers' way."""
    workers = available_cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"workers cannot be {workers}; give 1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads take this over
    pool = ThreadPoolExecutor(workers, thread_name_prefix="features")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def in_order(pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """``map(function, items)`` by a pool, which is given `BATCH` of them at a time: each takes a kilobyte while it waits."""
    for start in range(0, len(items), BATCH):
        yield from pool.map(function, items[start : start + BATCH])


def digests(pool: ThreadPoolExecutor, files: Sequence[str]) -> tuple[dict[str, bytes], dict[str, UserError]]:
    """By file the SHA-256 of its contents, or why it cannot be read."""

    def digest(path: str) -> bytes | UserError:
        try:
            with open_clip(path) as handle:
                return hashlib.file_digest(handle, "sha256").digest()
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{path}: cannot be read ({error.strerror})")

    clips: dict[str, bytes] = {}
    faults: dict[str, UserError] = {}
    for path, found in zip(files, in_order(pool, digest, files), strict=True):
        if isinstance(found, UserError):
            faults[path] = found
        else:
            clips[path] = found
    return clips, faults


def fault(path: str) -> UserError | None:
    """Why a clip cannot be used; None where nothing is wrong with it."""
    try:
        with decoded(path) as (_, blocks):
            for _block in blocks:
                pass
    except UserError as error:
        return error
    return None


def together(faults: Sequence[UserError]) -> UserError:
    """What is wrong with clips as one error, which names the first `NAMED` of them."""
    if len(faults) == 1:
        return faults[0]
    rest = [f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return UserError(f"{len(faults)} clips cannot be used: {'; '.join([*map(str, faults[:NAMED]), *rest])}")
