"""A user's own class, named in settings as ``path/to/file.py:Class`` or ``module:Class``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from metaser.runtime.errors import UserError, first_line, nearest


def own_class(name: str, base: type[Any]) -> type[Any]:
    """The class of that name.

    Args:
        name: ``path/to/file.py:Class``, the path from the current folder; or ``module:Class``, of a module that is installed or
            lies in the current folder.
        base: What it must be a subclass of.

    Raises:
        UserError: if it cannot be imported, or is no such class.
    """
    place, _, wanted = name.rpartition(":")
    module = own_module(place)
    found = getattr(module, wanted, None)
    if isinstance(found, type) and issubclass(found, base):
        return found
    known = [one for one, value in vars(module).items()
             if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__]  # fmt: skip
    near = f"; {nearest(wanted, known)}" if known else ""
    raise UserError(f"{name}: {place} has no class {wanted} that is a {base.__module__}.{base.__name__}{near}")


@cache
def own_module(place: str) -> ModuleType:
    """A user's module, by its name or by its file's path; a file is run once, however often it is named.

    Raises:
        UserError: if it cannot be imported.
    """
    if place.endswith(".py"):
        return run_file(Path(place), Path(place).stem)
    if (here := str(Path.cwd())) not in sys.path:  # a command's path begins with the folder that it is installed in
        sys.path.append(here)
    with importable(place):
        return importlib.import_module(place)


def run_file(path: Path, name: str) -> ModuleType:
    """A file as a module of that name.

    Raises:
        UserError: if it cannot be imported.
    """
    with importable(path):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def importable(place: str | Path) -> Iterator[None]:
    """Turns whatever a user's code raises when it is imported into one line.

    Raises:
        UserError: naming the place.
    """
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ImportError | SyntaxError | OSError) else f"{type(error).__name__}: "
        raise UserError(f"{place}: cannot be imported ({kind}{first_line(error)})") from error
