"""What all settings share: their types, and strictness."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from metaser.runtime.errors import shown

#: The largest count; a number of thousands of digits is not even written as text.
MOST = 10**9
Count = Annotated[int, Field(ge=1, le=MOST)]


def number(value: object) -> object:
    """YAML 1.1 reads "1e-3" as a string: converted, where it is a number; everything else must have its type."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


Number = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: What may be a part of a path or a key of a table.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
#: The same, or nothing.
Part = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")]


class Section(BaseModel):
    """Strict, immutable settings: no unknown key, no silent conversion of a string to a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def distinct(key: str, values: Sequence[object]) -> None:
    """Refuses a list in which something is there twice.

    Raises:
        ValueError: naming it.
    """
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {shown(value)} is there twice; each one once")
        seen.add(value)
