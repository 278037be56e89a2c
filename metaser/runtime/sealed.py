"""Tensors and facts in one safetensors file, written whole or not at all, with a digest of everything; reading runs no code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metaser.runtime.errors import first_line
from metaser.runtime.files import open_regular, replacing

#: The most bytes of a header, which is parsed whole.
HEADER = 1 << 26


class DamagedError(Exception):
    """A file that is not whole, or of another kind."""


def write(path: Path, tensors: Mapping[str, torch.Tensor], facts: Any, kind: str) -> None:
    """Writes a file that `read` reads.

    Args:
        path: Where.
        tensors: By name.
        facts: What JSON takes.
        kind: What the file is, and its version.

    Raises:
        UnwritableError: if it cannot be written; what was there is then as it was.
    """
    kept, text = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, json.dumps(facts)
    with replacing(path) as temporary:
        temporary.write_bytes(save(kept, {"format": kind, "facts": text, "digest": digest(kept, text)}))


def read(
    path: Path, kind: str, largest: int | None = None, header: int = HEADER
) -> tuple[dict[str, torch.Tensor], Any]:
    """A file's tensors and facts. They are copies: what becomes of the file later is nobody's concern.

    Args:
        path: A regular file, or a link to one.
        kind: As in `write`.
        largest: The most bytes that it may have; any number when not given.
        header: The most bytes of names, types and shapes, and of facts.

    Raises:
        DamagedError: if it is larger, of another kind, truncated, or not what was written.
    """
    try:
        with open_regular(path) as handle:
            size = os.fstat(handle.fileno()).st_size
            if largest is not None and size > largest:
                raise DamagedError(f"{path}: has {size} bytes, more than {largest}")
            if (claimed := int.from_bytes(handle.read(8), "little")) > header:
                raise DamagedError(f"{path}: has a header of {claimed} bytes, more than {header}")
            metadata = json.loads(handle.read(claimed)).get("__metadata__", {})
            if metadata.get("format") != kind:
                raise DamagedError(f"{path}: is no {kind}")
            handle.seek(0)
            tensors = load(handle.read(size))
        if metadata.get("digest") != digest(tensors, metadata.get("facts", "")):
            raise DamagedError(f"{path}: is not what was written")
        return tensors, json.loads(metadata["facts"])
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError
    ) as error:  # fmt: skip
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DamagedError(f"{path}: cannot be read ({reason})") from None


def digest(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """SHA-256 over the facts and every tensor's name, type, shape and bytes."""
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
