"""Methods by name, a user's own among them, and their settings: each method's are read by a class of its own."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metaser import config
from metaser.algorithms import ALGORITHMS
from metaser.algorithms.base import Learner
from metaser.baselines import BASELINES
from metaser.config.messages import explain
from metaser.runtime.errors import UserError, nearest, shown
from metaser.runtime.own import own_class

LEARNERS: dict[str, type[Learner]] = {**ALGORITHMS, **BASELINES}


def kind(name: str) -> type[Learner]:
    """The class of that name: one of `LEARNERS`, or a user's own, as ``path/to/file.py:Class`` or ``module:Class``.

    Raises:
        UserError: if there is none, or it is no learner.
    """
    if ":" not in name:
        if name not in LEARNERS:
            raise UserError(f"unknown name {name!r}; {nearest(name, LEARNERS)}")
        return LEARNERS[name]
    found: type[Learner] = own_class(name, Learner)
    return found


def source_digest(name: str) -> str:
    """SHA-256 of the file that a user's own class stands in; empty for `LEARNERS`."""
    if name in LEARNERS:
        return ""
    file = inspect.getsourcefile(kind(name))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def fields(name: str) -> Collection[str]:
    """What a method can be told.

    Raises:
        UserError: if there is no such method.
    """
    return kind(name).Settings.model_fields


def settings(tree: Mapping[str, Any], place: str) -> config.Algorithm:
    """A method's settings, checked.

    Args:
        tree: As in ``config.yaml``.
        place: What errors call it, such as ``algorithms.fmaml``.

    Raises:
        UserError: naming the key: one that is unknown or another method's, is missing, or has a value that cannot be.
    """
    name = tree.get("name")
    if not isinstance(name, str):
        raise UserError(
            f"missing key {place}.name" if name is None else f"{place}.name: must be text, not {shown(name)}"
        )
    try:
        chosen = kind(name)
    except UserError as error:
        raise UserError(f"{place}.name: {error}") from None
    for key in tree:
        owners = [other for other, one in LEARNERS.items() if key in one.Settings.model_fields]
        if key not in chosen.Settings.model_fields and owners:
            raise UserError(f"{place}.{key}: {name} has no use for it ({', '.join(owners)} "
                            f"ha{'s' if len(owners) == 1 else 've'}); leave it out")  # fmt: skip
    try:
        return chosen.Settings.model_validate(dict(tree))
    except ValidationError as error:
        raise UserError(explain(error, chosen.Settings, place)) from None


def configured(name: str, **own: Any) -> config.Algorithm:
    """A method's settings, as a script writes them.

    Raises:
        UserError: as `settings`.
    """
    return settings({"name": name, **own}, name)


def recorded(tree: Mapping[str, Any]) -> config.Algorithm:
    """A method's settings as an earlier version may have written them: with those of all methods, whatever it read.

    Raises:
        UserError: as `settings`.
    """
    known = {key for one in LEARNERS.values() for key in one.Settings.model_fields}
    own = fields(str(tree.get("name")))
    return settings({key: value for key, value in tree.items() if key in own or key not in known}, "algorithm")


def experiment(tree: Mapping[str, Any]) -> config.Experiment:
    """An experiment's settings as ``run.json`` has them; also those of an earlier version, which called images pictures.

    Raises:
        ValueError: if they are not what a run writes.
    """
    data = dict(tree["data"])
    if "pictures" in data:
        data["images"] = data.pop("pictures")
    try:
        algorithms = {label: recorded(one) for label, one in tree["algorithms"].items()}
    except UserError as error:
        raise ValueError(str(error)) from None
    return config.Experiment.model_validate({**tree, "data": data, "algorithms": algorithms})
