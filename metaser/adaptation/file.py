"""A model file: one sealed safetensors file (`metaser.runtime.sealed`) whose facts say what the model is and where it is from.

A model file may come from anybody. Its size and its header are checked before it is read, and everything in it before it
is used; reading it runs no code. What could not be read again is not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from metaser import config
from metaser.config import Section, distinct
from metaser.config.messages import explain
from metaser.features import recipe
from metaser.features.recipes import RECIPES
from metaser.models import MODELS
from metaser.runtime import sealed
from metaser.runtime.errors import CONTROL, UserError, first_line, nearest, shown
from metaser.runtime.files import seal
from metaser.runtime.sealed import DamagedError
from metaser.training import methods
from metaser.training.methods import LEARNERS

KIND = "metaser-model-1"

#: The tensors of what a model is adapted to: features ``(clips, coefficients, frames)``, and ``(clips,)`` their
#: valid frames, the clips' classes by number, and their speakers by number.
SUPPORT = ("support.x", "support.lengths", "support.y", "support.speakers")

#: The most bytes of a model file, and of its header.
LARGEST, HEADER = 1 << 27, 1 << 22
#: The most classes, and the most characters of the name of a class or of anything else.
CLASSES, NAME = 1000, 100
#: The types of tensors.
TYPES = (torch.float32, torch.float64, torch.int64)


def printable(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: if it holds a control character.
    """
    if CONTROL.search(name):
        raise ValueError(f"{shown(name)} holds a control character")
    return name


Name = Annotated[str, Field(min_length=1, max_length=NAME), AfterValidator(printable)]


class Trained(Section):
    """Where a model is from.

    Attributes:
        experiment: Its settings' experiment, with ``variant``, ``protocol``, and the algorithm's ``label`` there.
        seed: Of the weights and the tasks.
        kind: ``real`` or ``synthetic`` speech.
        clips: Source → clips that it was trained on.
        commit: Of the code.
        versions: Package → version.
    """

    experiment: str
    variant: str
    protocol: str
    label: str
    seed: int
    kind: str
    clips: dict[str, int]
    commit: str
    versions: dict[str, str]


def of_model(value: object) -> object:
    """The settings of a method of metaser's own; never a user's, whose code a model file must not run.

    Raises:
        ValueError: if there is no such method, or its settings cannot be.
    """
    if not isinstance(value, dict):
        return value
    name = value.get("name")
    if name not in LEARNERS:
        raise ValueError(f"there is no {shown(name)}; {nearest(str(name)[:NAME], LEARNERS)}")
    try:
        return methods.recorded(value)
    except UserError as error:
        raise ValueError(str(error)) from None


class Facts(Section):
    """What a model is.

    Attributes:
        algorithm: Its settings.
        engine: How its inner loop is computed.
        network: Its network's name.
        features: Recipe and normalisation.
        recipe: SHA-256 of the recipe's numbers.
        classes: What its outputs were trained as, the ``fixed`` last ones as fixed classes.
        trained: Where it is from.
        answers: What it says, once adapted: the classes of the clips, then the ``also`` ones that have no clips.
        also: How many of the last answers have no clips.
    """

    algorithm: Annotated[SerializeAsAny[config.Algorithm], BeforeValidator(of_model)]
    engine: config.Engine
    network: Name
    features: config.Features
    recipe: str
    classes: tuple[Name, ...] = Field(min_length=2, max_length=CLASSES, strict=False)
    fixed: int = Field(ge=0)
    trained: Trained
    answers: tuple[Name, ...] = Field(default=(), max_length=CLASSES, strict=False)
    also: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Facts:
        for key, name, there in ("network", self.network, MODELS), ("features.recipe", self.features.recipe, RECIPES):
            if name not in there:
                raise ValueError(f"{key}: there is no {shown(name)}; {nearest(name[:NAME], there)}")
        for key, names, special in (("classes", self.classes, self.fixed), ("answers", self.answers, self.also)):
            distinct(key, names)
            if special >= max(1, len(names)):
                raise ValueError(f"{key}: {special} of {len(names)} are special")
        return self


def checked(facts: Facts) -> Facts:
    """The same facts, if a model file may hold them.

    Raises:
        UserError: naming the key that is wrong.
    """
    try:
        return Facts.model_validate(facts.model_dump())
    except ValidationError as error:
        raise UserError(explain(error, Facts)) from None


def flaw(tensors: Mapping[str, torch.Tensor]) -> str:
    """Why a model file may not hold these tensors; empty if it may."""
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            return f"{shown(name)} is of type {tensor.dtype}"
        if not tensor.isfinite().all():
            return f"{shown(name)} holds NaN or infinite numbers"
    size = sum(tensor.nbytes for tensor in tensors.values())
    return f"its tensors have {size} bytes, more than {LARGEST - HEADER}" if size > LARGEST - HEADER else ""


def write(path: Path, facts: Facts, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a model file, whole or not at all.

    Raises:
        UserError: if `read` would refuse it.
        UnwritableError: if it cannot be written.
    """
    tree = checked(facts).model_dump(mode="json")
    if reason := flaw(tensors):
        raise UserError(f"{path}: is not written, for no model file may be so: {reason}")
    sealed.write(path, tensors, tree, KIND)


def read(path: Path) -> tuple[Facts, dict[str, torch.Tensor]]:
    """A model file's facts and tensors.

    Raises:
        UserError: naming it, if it is not there, of another kind or version, truncated, not what was written, larger than
            `LARGEST`, or asks for what no model does.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; `metaser train` makes a model file")
    try:
        tensors, facts = sealed.read(path, KIND, LARGEST, HEADER)
        found = Facts.model_validate_json(json.dumps(facts))
        wanted = seal(asdict(recipe(found.features.recipe, backend=found.features.backend)))
    except (DamagedError, UserError) as error:
        reason = first_line(error).removeprefix(f"{path}: ")
    except ValidationError as error:
        reason = explain(error, Facts)
    else:
        if wanted != found.recipe:
            reason = f"its features were made by another version of the recipe {found.features.recipe}"
        elif not (reason := flaw(tensors)):
            return found, tensors
    raise UserError(
        f"{path}: is no model file of this version of metaser ({reason}); make it again with `metaser train`"
    )
