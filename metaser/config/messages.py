"""What is wrong with settings, as one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from metaser.config.base import Section
from metaser.runtime.errors import nearest, shown


def explain(error: ValidationError, model: type[Section], prefix: str = "") -> str:
    """The first of pydantic's complaints as one line: the key, what is wrong, what would be right.

    Args:
        error: The complaints.
        model: What was read.
        prefix: The place of all of it.
    """
    # Of a union's members (a corpus's name or a mapping) the one that came furthest is what the user meant.
    start = error.errors()[0]["loc"][:-1]
    first = max((e for e in error.errors() if e["loc"][: len(start)] == start), key=lambda e: len(e["loc"]))
    # A union reports the member it tried ('str', 'CustomCorpus') as part of the place; users know only their keys.
    place = [str(part) for part in first["loc"] if part not in ("str", "CustomCorpus")]
    where = ".".join([prefix, *place] if prefix else place)[:200] or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}; {nearest(place[-1], known_keys(place[:-1], model))}"
    if first["type"] == "missing":
        return f"missing key {where}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}, not {shown(first['input'])}" if first["type"] != "value_error" else f"{where}: {reason}"


def known_keys(place: Sequence[str], root: type[Section]) -> list[str]:
    """The keys that settings know at a place such as ``["training"]``."""
    model: Any = root
    for part in place:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:  # inside a mapping or a list: the annotation below already named the model
            continue
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner += [deeper for entry in inner for deeper in getattr(entry, "__args__", ())]
        model = next((entry for entry in inner if isinstance(entry, type) and issubclass(entry, Section)), model)
    return list(getattr(model, "model_fields", {}))
