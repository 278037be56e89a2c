"""An experiment folder's ``run.py`` as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from metaser.runtime.errors import UserError, first_line


def load(folder: Path) -> ModuleType:
    """An experiment folder's ``run.py`` as a module.

    Raises:
        UserError: if there is none.
    """
    path = folder / "run.py"
    if not path.is_file():
        raise UserError(f"{folder}: is no experiment (it has no run.py); give a folder such as experiments/fmaml")
    spec = importlib.util.spec_from_file_location(f"experiment_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise UserError(f"{path}: cannot be imported ({first_line(error)})") from None
    for name in ("run", "render"):
        if not callable(getattr(module, name, None)):
            raise UserError(f"{path}: has no function {name}; experiments/fmaml/run.py shows both")
    return module
