"""An experiment's settings, read from YAML.

A ``config.yaml`` holds the settings of `metaser.config.Experiment` and, beside them, small overlays: ``protocols`` (how to
test), ``variants`` (such as 5shot) and ``synthetic`` (what to shorten when there is no real corpus). An overlay is merged
key by key over the rest. Unknown keys are refused with the nearest right name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from metaser.config import Algorithm, Experiment, Section
from metaser.runtime.errors import UserError, first_line, nearest, shown

OVERLAYS = ("protocols", "variants", "synthetic")

#: The deepest key that ``key=value`` may name; no setting is half as deep.
DEEPEST = 20


class Loader(yaml.SafeLoader):
    """YAML as settings need it: no alias, which can stand for more than memory holds, and no key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise ComposerError(None, None, f"the alias *{event.anchor} is not read; write it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is there twice, of which YAML would take the last."""
        mapping = super().construct_mapping(node, deep)
        seen = set()
        for key_node, _ in node.value if len(mapping) < len(node.value) else ():
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"the key {shown(key)} is there twice", key_node.start_mark)
            seen.add(key)
        return mapping


class Methods(Protocol):
    """What is known of methods; `metaser.training.methods` is."""

    def fields(self, name: str) -> Collection[str]:
        """What a method can be told."""

    def settings(self, tree: Mapping[str, Any], place: str) -> Algorithm:
        """A method's settings, checked."""


class Study:
    """A ``config.yaml``: its base settings, and the overlays by name.

    Args:
        path: The file.
        methods: Those that it may name.

    Raises:
        UserError: if the file cannot be read, is not YAML, or an overlay has an unknown key or a bad value.
    """

    def __init__(self, path: Path, methods: Methods) -> None:
        self.path, self.methods = path, methods
        tree = read_yaml(path)
        self.overlays: dict[str, dict[str, Any]] = {kind: tree.pop(kind, None) or {} for kind in OVERLAYS}
        self.base = tree
        for kind, overlay in self.overlays.items():
            if not isinstance(overlay, dict):
                raise UserError(f"{path}: {kind}: must be a mapping")
            self.overlays[kind] = {str(name): value for name, value in overlay.items()}
        self.protocols = list(self.overlays["protocols"]) or [""]
        self.variants = list(self.overlays["variants"])

    def experiment(
        self, *, variant: str = "", protocol: str = "", synthetic: bool = False, overrides: Sequence[str] = ()
    ) -> Experiment:
        """The settings with the wanted overlays: base, then variant, protocol, ``synthetic``, and ``key=value`` last.

        Raises:
            UserError: naming the file, the key and what would be right.
        """
        tree: dict[str, Any] = dict(self.base)
        if variant:
            tree = merge(tree, self._overlay("variants", variant))
        if protocol:
            tree = merge(tree, self._fitting(self._overlay("protocols", protocol), tree))
        if synthetic:
            tree = merge(tree, self._shortened(variant))
        changes = [parse_override(text) for text in overrides]
        try:
            grids = {
                label: own for label, own in algorithms_of(tree).items() if isinstance(own, dict) and "grid" in own
            }
            rows = set(algorithms_of(expanded(tree, self.methods))) if grids else set[str]()
            late = rows - set(algorithms_of(tree))  # they are there once the grids are written out
            for change in changes:
                tree = merge(tree, without(change, late))
            tree = expanded(tree, self.methods)
            for change in changes:
                of_rows = {label: own for label, own in algorithms_of(change).items() if label in late}
                tree = merge(tree, {"algorithms": of_rows}) if of_rows else tree
            return self._checked(self._compared(merge(tree, {"variant": variant, "protocol": protocol})))
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def _checked(self, tree: dict[str, Any]) -> Experiment:
        own = algorithms_of(tree)
        for label, entry in own.items():
            if not isinstance(entry, dict):
                raise UserError(f"algorithms.{label}: must be a mapping, such as {{name: fomaml}}")
        read = {label: self.methods.settings(entry, f"algorithms.{label}") for label, entry in own.items()}
        try:
            return Experiment.model_validate({**tree, "algorithms": read} if own else tree)
        except ValidationError as error:
            raise UserError(explain(error, Experiment)) from None

    def _compared(self, tree: dict[str, Any]) -> dict[str, Any]:
        """The settings with the algorithms that ``compare`` names only, in its order."""
        known, training, compared = tree.get("algorithms"), tree.get("training"), tree.get("compare")
        monitored = training.get("monitored") if isinstance(training, dict) else None
        if not isinstance(known, dict):
            return tree
        for key, labels in (("compare", compared), ("training.monitored", monitored)):
            for label in labels if isinstance(labels, list) else ():
                if not isinstance(label, str) or label not in known:
                    near = nearest(str(label), map(str, known))
                    raise UserError(f"{key}: no algorithm {shown(label)}; {near}")
        if not compared or not isinstance(compared, list):
            return tree
        return {**tree, "algorithms": {label: known[label] for label in compared}}

    def _shortened(self, variant: str) -> dict[str, Any]:
        """The overlay ``synthetic``; which methods it names gives way to a variant that is about methods of its own."""
        overlay = self.overlays["synthetic"]
        own = self.overlays["variants"].get(variant)
        return {key: value for key, value in overlay.items() if key != "compare" or "compare" not in (own or {})}

    def _fitting(self, overlay: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
        """A protocol's overlay without what it says of algorithms that only other variants have."""
        changed = overlay.get("algorithms")
        if not isinstance(changed, dict):
            return overlay
        here, elsewhere = algorithms_of(tree), set[str]().union(*map(algorithms_of, self.overlays["variants"].values()))
        return {**overlay, "algorithms": {n: c for n, c in changed.items() if n in here or n not in elsewhere}}

    def _overlay(self, kind: str, name: str) -> dict[str, Any]:
        known = self.overlays[kind]
        if name not in known:
            raise UserError(f"{self.path}: unknown {kind[:-1]} {name!r}; {nearest(name, known)}")
        if not isinstance(known[name], dict):
            raise UserError(f"{self.path}: {kind}.{name}: must be a mapping")
        return known[name]


def algorithms_of(tree: object) -> dict[str, Any]:
    """The algorithms by label, in settings that were not checked yet."""
    found = tree.get("algorithms") if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}


def without(change: dict[str, Any], labels: Collection[str]) -> dict[str, Any]:
    """A change without what it says of some algorithms."""
    own = algorithms_of(change)
    return (
        {**change, "algorithms": {label: one for label, one in own.items() if label not in labels}} if own else change
    )


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
                raise UserError(
                    f"algorithms.{label}: has keys that its grid has not; it has {', '.join(grid)}"
                ) from None
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
        raise UserError(
            f"algorithms.{label}.like: no algorithm {shown(other)}; {nearest(str(other), map(str, entries))}"
        )
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


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping.

    Raises:
        UserError: naming the file, and the line where it is not YAML.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}: is not valid YAML{where} ({getattr(error, 'problem', None) or 'unreadable'})"
        ) from None
    except Exception as error:  # whatever its constructors raise, such as at a date that no calendar has
        raise UserError(f"{path}: has a value that cannot be read ({first_line(error)})") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a mapping of settings, such as 'seeds: [0]'")
    return tree


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` over ``base``, key by key; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in overlay.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """``training.iterations=100`` as a nested mapping; the value is read as YAML.

    Raises:
        UserError: if there is no ``=`` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text[:80]}: give key=value, such as training.iterations=100")
    try:
        tree: Any = yaml.load(value, Loader)
    except Exception as error:  # as in `read_yaml`
        reason = getattr(error, "problem", None) or "unreadable"
        raise UserError(f"--set {text[:80]}: the value is not valid YAML ({reason})") from None
    parts = key.strip().split(".")
    if len(parts) > DEEPEST:
        raise UserError(f"--set {text[:80]}: no key is that deep; give key=value, such as training.iterations=100")
    for part in reversed(parts):
        tree = {part: tree}
    return tree


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
