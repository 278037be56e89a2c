"""An experiment folder's ``run.py`` as a module."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from metaser.runtime.errors import UserError
from metaser.runtime.own import run_file


def load(folder: Path) -> ModuleType:
    """An experiment folder's ``run.py`` as a module.

    Raises:
        UserError: if there is none, it cannot be imported, or lacks a function.
    """
    path = folder / "run.py"
    if not path.is_file():
        raise UserError(f"{folder}: is no experiment (it has no run.py); give a folder such as experiments/fmaml")
    module = run_file(path, f"experiment_{folder.name}")
    if not callable(getattr(module, "render", None)):
        raise UserError(f"{path}: has no function render; experiments/adapt/run.py shows one")
    return module
