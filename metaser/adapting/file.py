"""A model file: one sealed safetensors file (`metaser.sealed`) whose facts say what the model is and where it is from.

Everything in the facts is checked before it is used; reading a file runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import Field, ValidationError, model_validator

from metaser import config, sealed
from metaser.config import Section, distinct
from metaser.errors import UserError, first_line
from metaser.features import recipe
from metaser.files import seal
from metaser.sealed import DamagedError
from metaser.study import explain

KIND = "metaser-model-1"

#: The tensors of what a model is adapted to: features ``(clips, coefficients, frames)``, and ``(clips,)`` their
#: valid frames, the clips' classes by number, and their speakers by number.
SUPPORT = ("support.x", "support.lengths", "support.y", "support.speakers")

Names = Field(default=(), strict=False)


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

    algorithm: config.Algorithm
    engine: config.Engine
    network: str
    features: config.Features
    recipe: str
    classes: tuple[str, ...] = Field(min_length=2, strict=False)
    fixed: int = Field(ge=0)
    trained: Trained
    answers: tuple[str, ...] = Names
    also: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Facts:
        for key, names, special in (("classes", self.classes, self.fixed), ("answers", self.answers, self.also)):
            distinct(key, names)
            if special >= max(1, len(names)):
                raise ValueError(f"{key}: {special} of {len(names)} are special")
        return self


def write(path: Path, facts: Facts, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a model file, whole or not at all.

    Raises:
        UnwritableError: if it cannot be written.
    """
    sealed.write(path, tensors, facts.model_dump(mode="json"), KIND)


def read(path: Path) -> tuple[Facts, dict[str, torch.Tensor]]:
    """A model file's facts and tensors.

    Raises:
        UserError: naming it, if it is not there, of another kind or version, truncated, or not what was written.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `metaser train` makes a model file")
    try:
        tensors, facts = sealed.read(path, KIND)
        found = Facts.model_validate_json(json.dumps(facts))
        wanted = seal(asdict(recipe(found.features.recipe, backend=found.features.backend)))
    except (DamagedError, UserError) as error:
        reason = first_line(error).removeprefix(f"{path}: ")
    except ValidationError as error:
        reason = explain(error)
    else:
        if wanted == found.recipe:
            return found, tensors
        reason = f"its features were made by another version of the recipe {found.features.recipe}"
    raise UserError(
        f"{path}: is no model file of this version of metaser ({reason}); make it anew with `metaser train`"
    )
