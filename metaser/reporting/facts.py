"""``run.json``, read back: where a folder's numbers are from, and what a run was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from metaser.runtime.errors import UserError, first_line


class Origin(BaseModel):
    """What made the numbers of a run, a measurement or a sweep; what is not known is empty."""

    commit: str = ""
    python: str = ""
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    wall_seconds: float | None = Field(None, ge=0, lt=1e9)


class Data(BaseModel):
    """What a run's numbers are of: ``real`` data or what else, from which collection; domain → title, clips, clips per emotion."""

    kind: str
    collection: str
    domains: dict[str, str]
    clips: dict[str, int] = {}
    emotions: dict[str, dict[str, int]] = {}
    absent: list[str] = []
    features_sha256: dict[str, str] = {}


class Incomplete(BaseModel):
    """Of an unfinished run: how many of its models are finished."""

    finished: int
    models: int


class Facts(Origin):
    """What a run was: the settings of each protocol, those from the command line, its data, the processors of its models."""

    settings: dict[str, dict[str, Any]] = Field(min_length=1)
    data: Data
    overrides: list[str] = []
    incomplete: Incomplete | None = None
    processors: dict[str, int] = {}


Model = TypeVar("Model", bound=Origin)


def read_facts(folder: Path, model: type[Model]) -> Model:
    """A folder's ``run.json``.

    Raises:
        UserError: naming it, if it cannot be read or is not what a run writes.
    """
    path = folder / "run.json"
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        wrong = " ".join([".".join(map(str, first["loc"])), *first["msg"].split()])
        raise UserError(f"{path}: is not what a run writes ({wrong[:200].strip()})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from None
