"""An experiment's settings, read from YAML.

A ``config.yaml`` holds the settings of `metaser.config.Experiment` and, beside them, small overlays: ``protocols`` (how to
test), ``variants`` (such as 5shot) and ``synthetic`` (what to shorten when there is no real corpus). An overlay is merged
key by key over the rest. Unknown keys are refused with the nearest right name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metaser.config import Experiment
from metaser.config.entries import Methods, algorithms_of, expanded
from metaser.config.messages import explain
from metaser.config.reading import merge, parse_override, read_yaml
from metaser.runtime.errors import UserError, nearest, shown

OVERLAYS = ("protocols", "variants", "synthetic")


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
        changes, labels = [parse_override(text) for text in overrides], set(algorithms_of(tree))
        try:
            for early in (True, False):  # rows of a grid can be changed once they are written out
                for change in changes:
                    tree = merge(tree, about(change, labels, early))
                tree = expanded(tree, self.methods)
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
        fitting = {label: own for label, own in changed.items() if label in here or label not in elsewhere}
        for label, own in fitting.items():
            if label not in here and not (isinstance(own, dict) and own.keys() & {"name", "like"}):
                raise UserError(f"{self.path}: algorithms.{label}: there is no such algorithm; {nearest(label, here)}")
        return {**overlay, "algorithms": fitting}

    def _overlay(self, kind: str, name: str) -> dict[str, Any]:
        known = self.overlays[kind]
        if name not in known:
            raise UserError(f"{self.path}: unknown {kind[:-1]} {name!r}; {nearest(name, known)}")
        if not isinstance(known[name], dict):
            raise UserError(f"{self.path}: {kind}.{name}: must be a mapping")
        return known[name]


def about(change: dict[str, Any], labels: Collection[str], known: bool) -> dict[str, Any]:
    """What a change says of these algorithms and of all else; or, where ``known`` is False, of other algorithms."""
    own = algorithms_of(change)
    if not own:
        return change if known else {}
    return {"algorithms": {label: one for label, one in own.items() if (label in labels) == known}}
