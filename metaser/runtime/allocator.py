"""The C library's allocator, set once so that large blocks are kept instead of being handed back to the kernel.

A forward and backward pass of a large network otherwise costs 10,000 to 175,000 page faults. It raises the memory that a
process holds on to, up to what it once used.
"""

from __future__ import annotations

import ctypes
import functools

#: glibc's mallopt parameters: no block is mapped on its own, nothing is trimmed, the heap grows by 64 MiB at a time.
M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD = -4, -1, -2


@functools.cache
def tune() -> bool:
    """Sets the allocator; call it before anything large is allocated. False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_TOP_PAD, 64 << 20)])
