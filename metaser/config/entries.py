"""The algorithms of a configuration written out: what each is ``like``, and each row of its ``grid``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product
from typing import Any, Protocol

from metaser.config import Algorithm
from metaser.config.reading import merge
from metaser.runtime.errors import UserError, nearest, shown


class Methods(Protocol):
    """What is known of methods; `metaser.training.methods` is."""

    def fields(self, name: str) -> Collection[str]:
        """What a method can be told."""

    def settings(self, tree: Mapping[str, Any], place: str) -> Algorithm:
        """A method's settings, checked."""


def algorithms_of(tree: object) -> dict[str, Any]:
    """The algorithms by label, in settings that were not checked yet."""
    found = tree.get("algorithms") if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}


def expanded(tree: dict[str, Any], methods: Methods) -> dict[str, Any]:
    """The settings with every algorithm written out: what it is ``like``, and each row of its ``grid``.

    ``like: <label>`` takes over that entry's settings, so far as the method has a use for them. ``grid: {key: [values]}`` makes
    an entry of every combination; the label says how they are called: ``"fomaml_{inner_lr}"``, and stands for all in ``compare``.

    Raises:
        UserError: naming the entry.
    """
    entries = algorithms_of(tree)
    if not entries:
        return tree
    found: dict[str, Any] = {}
    rows: dict[str, list[str]] = {}
    for label in entries:
        entry = resolved(label, entries, methods, ())
        grid = entry.pop("grid", None) if isinstance(entry, dict) else None
        if grid is None:
            found[label] = entry
            continue
        rows[label] = []
        if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
            raise UserError(f"algorithms.{label}.grid: must be a mapping of lists, such as {{inner_lr: [0.01, 0.1]}}")
        for values in product(*grid.values()):
            row = dict(zip(grid, values, strict=True))
            try:
                name = label.format(**row)
            except (KeyError, ValueError, IndexError):
                has = ", ".join(grid)
                raise UserError(f"algorithms.{label}: has keys that its grid has not; it has {has}") from None
            if name in found:
                raise UserError(f"algorithms.{label}: names two rows {name}; name them by all that the grid changes, such as "
                                f"{label}_{{{next(iter(grid))}}}")  # fmt: skip
            found[name] = {**entry, **row}
            rows[label].append(name)
    compared = tree.get("compare")
    if isinstance(compared, list):
        tree = {**tree, "compare": [name for label in compared for name in rows.get(str(label), [label])]}
    return {**tree, "algorithms": found}


def resolved(label: str, entries: Mapping[str, Any], methods: Methods, before: tuple[str, ...]) -> Any:
    """An entry with the settings of what it is like.

    Raises:
        UserError: if there is no such entry, or it is like itself.
    """
    entry = entries[label]
    if not isinstance(entry, dict) or "like" not in entry:
        return dict(entry) if isinstance(entry, dict) else entry
    other, own = entry["like"], {key: value for key, value in entry.items() if key != "like"}
    if not isinstance(other, str) or other not in entries:
        near = nearest(str(other), map(str, entries))
        raise UserError(f"algorithms.{label}.like: no algorithm {shown(other)}; {near}")
    if other in (*before, label):
        raise UserError(f"algorithms.{label}.like: is like itself, by way of {', '.join((*before, label))}")
    base = resolved(other, entries, methods, (*before, label))
    if not isinstance(base, dict):
        return own
    name = own.get("name", base.get("name"))
    if name != base.get("name") and isinstance(name, str):
        known = methods.fields(name)
        base = {key: value for key, value in base.items() if key in known or key == "grid"}
    return merge(base, own)
