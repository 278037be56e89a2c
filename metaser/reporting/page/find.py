"""Which folders of a results folder hold a run, and which a measurement of speed or a sweep, which have files of their own."""

from __future__ import annotations

import os
import re
from pathlib import Path

from metaser.runtime.errors import UserError, first_line

#: Folders at the top whose contents are no runs: shown as they are.
MEASURED = ("bench", "scaling", "sweeps")


def find(results: Path) -> tuple[list[Path], list[Path]]:
    """The folders of all runs, and of all measurements, in the order of their names, numbers by their size.

    What is hidden is left out, and so is the ``real.partial`` of a run that is not finished.

    Raises:
        UserError: if there is no such folder, or it holds neither.
    """
    if not results.is_dir():
        what = "is a file" if results.exists() else "there is no such folder"
        raise UserError(f"{results}: {what}; give the folder that `metaser run` writes to (--results)")
    runs, measured = [], []

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({first_line(error)})")

    for place, folders, files in os.walk(results, onerror=refuse):
        path = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(".partial")]
        if path.relative_to(results).parts[:1] in [(name,) for name in MEASURED]:
            if "table.md" in files:
                measured.append(path)
                folders.clear()  # a sweep's cells are in its table
        elif {"run.json", "summary.csv"} & set(files):
            runs.append(path)
    if not runs and not measured:
        raise UserError(f"{results}: holds no run; `metaser run experiments/fmaml --variant 5shot` writes one")
    return sorted(runs, key=natural), sorted(measured, key=natural)


def natural(path: Path) -> list[list[tuple[int, str]]]:
    """A key that puts 5shot before 10shot, and fmaml before fmaml-best."""
    return [[(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"([0-9]{1,18})", part) if piece]
            for part in path.parts]  # fmt: skip
