"""Tensors and facts in one safetensors file, written whole or not at all, with a digest of everything; reading runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from metaser.files import replacing


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


def read(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], Any]:
    """A file's tensors and facts.

    Raises:
        DamagedError: if it is of another kind, truncated, or not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        if metadata.get("format") != kind:
            raise DamagedError(f"{path}: is no {kind}")
        if metadata.get("digest") != digest(tensors, metadata.get("facts", "")):
            raise DamagedError(f"{path}: is not what was written")
        return tensors, json.loads(metadata["facts"])
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        raise DamagedError(f"{path}: cannot be read ({error})") from None


def digest(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """SHA-256 over the facts and every tensor's name, type, shape and bytes."""
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
