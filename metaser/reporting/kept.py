"""The finished models of a run that is not finished: a small sealed file each, which may be committed and taken elsewhere.

A file holds which model it is, its identity (all that decides its numbers), what made it (processor with its instruction
sets, versions, commit, time), and its results. It is used again where the identity is the same, whatever else a run is of.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaser.runtime.errors import UserError
from metaser.runtime.files import read_json, read_sealed, seal, write_sealed, write_text
from metaser.runtime.progress import say

#: In a partial folder: the finished models' files, the checkpoints of the others, and why some failed.
MODELS, CHECKPOINTS, LOGS = "models", "checkpoints", "logs"

#: What names a model, in the order in which file names and errors have it.
NAMING = ("protocol", "source", "target", "algorithm", "seed")

#: What a model's file holds.
CONTENT = {"model", "identity", "made", "result"}

#: Beside the checkpoints of a model: whose they are.
IDENTITY = "identity.json"

#: Differences between two configurations that an error names.
SHOWN = 3


class Kept:
    """What a partial folder holds of single models.

    Args:
        folder: The partial folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        """Where a finished model is."""
        return self.folder / MODELS / f"{name}.json"

    def log(self, name: str) -> Path:
        """Where it is written why a model failed."""
        return self.folder / LOGS / f"{name}.txt"

    def checkpoints(self, name: str) -> Path:
        """The folder of a model's checkpoints."""
        return self.folder / CHECKPOINTS / name

    def read(self, name: str) -> dict[str, Any] | None:
        """A model's file, `CONTENT`; None if there is none, or it is damaged."""
        content = read_sealed(self.file(name))
        if isinstance(content, dict) and content.keys() >= CONTENT:
            return content
        if self.file(name).exists():
            say(f"{self.file(name)}: is damaged; this model is trained again")
        return None

    def find(self, name: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """A finished model; None if it is still to be trained, in which case checkpoints that are there are its own.

        Raises:
            UserError: if there is one of the same name that was made by another configuration, with the difference.
        """
        content = self.read(name)
        if content is not None:
            agree(content["identity"], identity, self.file(name))
            return content
        checkpoints = self.checkpoints(name)
        if any(checkpoints.glob("*.safetensors")):
            try:
                known = read_json(checkpoints / IDENTITY)
            except UserError:  # nobody knows whose they are
                shutil.rmtree(checkpoints)
            else:
                agree(known, identity, checkpoints)
        return None

    def begin(self, name: str, identity: Mapping[str, Any]) -> Path:
        """The folder for the checkpoints of a model that is about to be trained."""
        write_text(self.checkpoints(name) / IDENTITY, json.dumps(identity, indent=1, sort_keys=True))
        return self.checkpoints(name)

    def keep(self, name: str, content: Mapping[str, Any]) -> None:
        """Keeps a finished model, after which it needs neither checkpoints nor log.

        Raises:
            UnwritableError: if it cannot be written; its checkpoints are then still there.
        """
        write_sealed(self.file(name), dict(content))
        self.log(name).unlink(missing_ok=True)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Removes a model's checkpoints."""
        shutil.rmtree(self.checkpoints(name), ignore_errors=True)

    def others(self, names: Mapping[str, Any]) -> list[str]:
        """The finished models that are kept and are none of these."""
        return sorted({path.stem for path in (self.folder / MODELS).glob("*.json")} - names.keys())


def name_of(model: Mapping[str, Any]) -> str:
    """A file name for a model: readable, and no other model's."""
    words = [str(model[key]) for key in NAMING[:-1] if model[key]] + [f"seed{model['seed']}"]
    readable = re.sub(r"[^A-Za-z0-9_+-]", "_", "-".join(words))
    exact = json.dumps([model[key] for key in NAMING])
    return f"{readable[:120]}-{hashlib.sha256(exact.encode()).hexdigest()[:6]}"


def title_of(model: Mapping[str, Any]) -> str:
    """A model as errors name it: "strict, emodb, fmaml, seed 0"."""
    return ", ".join([*(str(model[key]) for key in NAMING[:-1] if model[key]), f"seed {model['seed']}"])


def digest_of(identity: Mapping[str, Any]) -> str:
    """An identity in short."""
    return seal(identity)[:16]


def agree(there: Any, now: Mapping[str, Any], path: Path) -> None:
    """Refuses what another configuration made.

    Raises:
        UserError: naming it, with the first differences.
    """
    changes = difference(there, now)
    if changes:
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise UserError(f"{path}: was made by a run of another configuration ({'; '.join(changes[:SHOWN])}{more}); set these "
                        f"back to go on with it, or use --no-resume to begin over")  # fmt: skip


def difference(before: Any, now: Any, key: str = "") -> list[str]:
    """Where two JSON trees differ, a line each: ``training.iterations: 100 there, 200 now``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [
            line for name in keys for line in difference(before.get(name), now.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if before == now else [f"{key}: {before!r} there, {now!r} now"]
