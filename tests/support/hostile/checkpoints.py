"""Files that are no checkpoint: other formats, other headers, and whole ones that hold something else."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from metaser.runtime import sealed
from metaser.training import checkpoint
from support.hostile.documents import CODE

#: What is changed in a checkpoint's header, once.
CHANGES = (
    (b'"F32"', b'"F64"'), (b'"F32"', b'"I32"'), (b'"F32"', b'"BF16"'), (b'"F32"', b'"X"'), (b'"U8"', b'"BOOL"'),
    (b'"U8"', b'"I8"'), (b"[", b"[0,"), (b"[", b"[-1,"), (b'"shape":[', b'"shape":[1,'), (b"weights.0000", b"weights.0001"),
    (b"offsets", b"offset"), (b"metaser-checkpoint-1", b"metaser-checkpoint-2"), (b"__metadata__", b"__metadato__"),
)  # fmt: skip


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (CODE,)


def other_files(kept: bytes) -> dict[str, bytes]:
    """What others keep models in, and a checkpoint's bytes put together otherwise."""
    archive, arrays, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weights.0000": torch.ones(3)}, archive)
    np.savez(arrays, x=np.ones(3))
    np.save(array, np.array([Code()], dtype=object), allow_pickle=True)
    length = int.from_bytes(kept[:8], "little")
    header = kept[8 : 8 + length]
    files = {
        "torch": archive.getvalue(),
        "npz": arrays.getvalue(),
        "npy": array.getvalue(),
        "pickle": pickle.dumps(Code()),
        "old pickle": pickle.dumps(Code(), protocol=0),
        "JSON": b'{"weights": []}',
        "safetensors": save({"x": torch.ones(3)}),
        "nested": kept[:8] + kept,
        "twice": kept + kept,
        "header": kept[: 8 + length],
        "body": kept[8 + length :],
        "deep header": headed(kept, header=b"[" * 100_000),
        "huge offsets": headed(kept, header=re.sub(rb"(\d+)\](?=\})", b"%d]" % 2**62, header)),
    }
    for size in (0, 1, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1):
        files[f"header of {size}"] = headed(kept, size)
    for old, new in CHANGES:
        files[f"{old!r} as {new!r}"] = headed(kept, header=header.replace(old, new, 1))
    return files


def headed(data: bytes, size: int | None = None, header: bytes | None = None) -> bytes:
    """A safetensors file with another header, or one that claims another size."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] if header is None else header
    return (len(header) if size is None else size).to_bytes(8, "little") + header + data[8 + length :]


def resealed(tensors: dict[str, torch.Tensor], text: str) -> bytes:
    """A checkpoint with a right digest of these tensors and facts, whatever they are."""
    return save(tensors, {"format": checkpoint.FORMAT, "facts": text, "digest": sealed.digest(tensors, text)})


#: What a checkpoint may say of itself, and cannot.
FACTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no position": lambda facts: facts.pop("position"),
    "no rows": lambda facts: facts.pop("rows"),
    "no random states": lambda facts: facts.pop("random"),
    "a position of text": lambda facts: facts.update(position="2"),
    "a position too much": lambda facts: facts["position"].update(epoch=3),
    "rows of nothing": lambda facts: facts.update(rows=None),
    "no state of Python": lambda facts: facts["random"].pop("python"),
    "a short state of Python": lambda facts: facts["random"]["python"][1].pop(),
    "no state of numpy": lambda facts: facts["random"].update(numpy=["PCG64", [], 0, 0, 0.0]),
    "a short state of numpy": lambda facts: facts["random"]["numpy"][1].pop(),
}
TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "no weight": lambda tensors: tensors.pop("weights.0000"),
    "a weight of another type": lambda tensors: tensors.update({"weights.0000": tensors["weights.0000"].double()}),
    "a weight of another shape": lambda tensors: tensors.update({"weights.0000": tensors["weights.0000"][:1].clone()}),
    "no random state": lambda tensors: tensors.pop("random.torch"),
    "a short random state": lambda tensors: tensors.update({"random.torch": torch.zeros(3, dtype=torch.uint8)}),
    "a random state of numbers": lambda tensors: tensors.update({"random.torch": torch.zeros(3)}),
    "an optimiser as a whole": lambda tensors: tensors.update(optimiser=torch.ones(1)),
    "an optimiser of no parameter": lambda tensors: tensors.update({"optimiser.9999.step": torch.ones(1)}),
    "an optimiser of text": lambda tensors: tensors.update({"optimiser.first.step": torch.ones(1)}),
    "an optimiser of nothing": lambda tensors: tensors.update({"optimiser.0000": torch.ones(1)}),
    "a moment of another shape": lambda tensors: tensors.update({"optimiser.0000.exp_avg": torch.ones(7)}),
}
