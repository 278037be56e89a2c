"""A table of utterances → one array of features, computed once, in parallel, and cached as one safetensors file.

The cache's key is made of the contents of all files, in order, and of the recipe: a changed file is noticed even under
its old name, and moving a corpus costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from metaser.corpora.audio import open_clip, read_waveform
from metaser.errors import UserError
from metaser.features import encoder
from metaser.features.clip import checked
from metaser.features.recipes import Encoder, Recipe
from metaser.files import cache_folder, replacing
from metaser.parallel import available_cores

#: Part of the cache's key; goes up whenever the same recipe would give other numbers than before.
FORMAT = 1


@dataclass(frozen=True)
class FeatureSet:
    """The features of a table's utterances, row by row.

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

    Args:
        table: One row per utterance; ``path`` is where its clip lies.
        recipe: What to compute.
        progress: Called with the utterances done and their total, after each one; once when they come from the cache.
        workers: Threads; None for one per core. The result does not depend on it.

    Returns:
        ``x`` is ``(utterances, coefficients, frames)``, in the table's order.

    Raises:
        UserError: if the table has no rows, a clip is missing, unreadable, empty or not finite (naming the file), or
            the cache cannot be written. Nothing is left in the cache then.
    """
    paths = [str(path) for path in table["path"]]
    if not paths:
        raise UserError("no utterances to extract features from; choose a corpus or a filter that leaves some")
    with threads(workers) as pool:
        key = _key(pool, paths, recipe)
        cache = cache_folder("features") / f"{key}.safetensors"
        found = _load(cache, (len(paths), *recipe.shape))
        if found is None:
            found = _compute_all(pool, paths, recipe, progress)
            _save(cache, *found, recipe)
        elif progress:
            progress(len(paths), len(paths))
    return FeatureSet(*found, table.reset_index(drop=True), recipe.name, key)


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


def _key(pool: ThreadPoolExecutor, paths: list[str], recipe: Recipe) -> str:
    """The name of the cache's file for these contents and this recipe."""
    key = hashlib.sha256(json.dumps([FORMAT, asdict(recipe)], sort_keys=True).encode())
    if isinstance(recipe, Encoder):
        key.update(encoder.identity(recipe))
    for digest in pool.map(_digest, paths):
        key.update(digest)
    return key.hexdigest()


def _digest(path: str) -> bytes:
    try:
        with open_clip(path) as handle:
            return hashlib.file_digest(handle, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _compute_all(
    pool: ThreadPoolExecutor, paths: list[str], recipe: Recipe, progress: Callable[[int, int], None] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(utterances, coefficients, frames)`` and ``(utterances,)``; each worker fills its own rows."""
    x = torch.empty(len(paths), *recipe.shape, dtype=torch.float32)
    lengths = torch.empty(len(paths), dtype=torch.int64)

    def fill(row: int) -> None:
        x[row], lengths[row] = checked(read_waveform(paths[row], recipe.rate), recipe, paths[row])

    for done, _ in enumerate(pool.map(fill, range(len(paths))), start=1):
        if progress:
            progress(done, len(paths))
    return x, lengths


def _save(path: Path, x: torch.Tensor, lengths: torch.Tensor, recipe: Recipe) -> None:
    notes = {"checksum": _checksum(x, lengths), "recipe": json.dumps(asdict(recipe))}
    with replacing(path) as temporary:
        try:
            save_file({"x": x, "lengths": lengths}, temporary, metadata=notes)
        except SafetensorError as error:  # how a full disk shows itself here
            raise OSError(str(error)) from None


def _load(path: Path, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What `_save` wrote, or None when there is nothing, or nothing whole."""
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: what the file holds later is then nobody's concern.
            x, lengths = file.get_tensor("x").clone(), file.get_tensor("lengths").clone()
            checksum = (file.metadata() or {}).get("checksum")
    except (OSError, SafetensorError):
        return None
    whole = tuple(x.shape) == shape and len(lengths) == shape[0] and checksum == _checksum(x, lengths)
    return (x, lengths) if whole else None


def _checksum(x: torch.Tensor, lengths: torch.Tensor) -> str:
    return f"{zlib.crc32(lengths.numpy().data, zlib.crc32(x.numpy().data)):08x}"
