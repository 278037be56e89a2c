"""Arrays of features: in memory, or, where they are large, in a file without a name that goes away with the array.

The system keeps as much of such a file in memory as it has room for.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable
from weakref import WeakValueDictionary

import torch

from metaser.runtime.errors import UnwritableError
from metaser.runtime.files import cache_folder

#: Bytes of an array from which it lies in a file, and that are worked on before `release` is called.
LARGE, CHUNK = 256 << 20, 4 << 20

#: The files' memory maps, by their address.
_MAPS: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()


def zeros(*shape: int) -> torch.Tensor:
    """A float32 array of zeros: in memory, or, from `LARGE` on, in a file in the cache folder that only the array holds.

    Raises:
        UserError: if the cache cannot be written.
        UnwritableError: if the disk has no room for it.
    """
    size = 4 * math.prod(shape)
    if size < LARGE:
        return torch.zeros(shape, dtype=torch.float32)
    folder = cache_folder()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process by a signal
            else:
                file.truncate(size)
            pages = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise UnwritableError(
            f"{folder}: no room for an array of {size >> 20} MiB ({error.strerror}); free some space or set METASER_CACHE"
        ) from None
    x = torch.frombuffer(pages, dtype=torch.float32).reshape(shape)
    _MAPS[x.data_ptr()] = pages
    return x


def release(*arrays: torch.Tensor) -> None:
    """Takes what `zeros` has put into files out of this process's memory; it is read again where it is needed."""
    for x in arrays:
        pages = _MAPS.get(x.data_ptr())
        if pages is not None:
            pages.madvise(mmap.MADV_DONTNEED)


def releasing(*arrays: torch.Tensor) -> Callable[[int], None]:
    """Calls `release` once about `CHUNK` bytes of the first array have been used; tell what it returns the rows that were."""
    rows, most = 0, rows_of_a_chunk(arrays[0])

    def used(count: int) -> None:
        nonlocal rows
        rows += count
        if rows >= most:
            release(*arrays)
            rows = 0

    return used


def rows_of_a_chunk(x: torch.Tensor) -> int:
    """How many rows of an array are a `CHUNK`, at least 1."""
    return max(1, CHUNK // (x.element_size() * math.prod(x.shape[1:])))
