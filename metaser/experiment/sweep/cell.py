"""One cell of a sweep: a run of one model, in a folder named by the hash of all that decides its numbers.

``cells/<hash>/`` holds ``log.txt`` (what the run said), ``results/`` once it ended well, ``error.txt`` if it failed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from metaser.config.folder import load
from metaser.experiment import Run, RunOptions
from metaser.experiment.trials import Trial
from metaser.reporting.folder import MIXED, ResultsFolder
from metaser.reporting.kept import difference
from metaser.runtime.errors import PartialError, UserError, first_line
from metaser.runtime.files import seal, write_text

LOG, ERROR, RESULTS = "log.txt", "error.txt", "results"

#: Of a run that ended well but for that.
UNFINISHED = "its run left no whole results folder"

#: Without one of these a results folder is not a finished run's.
FILES = ("metrics.csv", "tasks.csv", "summary.csv", "confusion.csv", "run.json")


@dataclass(frozen=True)
class Cell:
    """A cell, with all that another machine needs to run it.

    Attributes:
        experiment: The experiment's folder.
        variant: One of its variants, or nothing.
        protocol: One of its protocols, or nothing.
        algorithm: The only algorithm.
        target: The only target; several, joined by ``+``, where one model serves them all.
        seed: The only seed.
        overrides: ``key=value``, by which a run has this one model.
        identity: All that decides the numbers, as `movable` gives it.
        cells: The folder of all cells.
        root: The data root, where one was given.
        checkpoint_every: As in `metaser.experiment.RunOptions`.
        source: Its sources, joined by ``+``, where there are several sets of them.
    """

    experiment: Path
    variant: str
    protocol: str
    algorithm: str
    target: str
    seed: int
    overrides: tuple[str, ...]
    identity: Mapping[str, Any]
    cells: Path
    root: Path | None = None
    checkpoint_every: int = 0
    source: str = ""

    def __str__(self) -> str:
        named = (self.variant, self.protocol, self.algorithm, self.source, self.target, f"seed {self.seed}")
        return ", ".join(part for part in named if part)

    @cached_property
    def key(self) -> str:
        """The hash of the identity: the same in every process and on every machine."""
        return seal(self.identity)[:16]

    @property
    def folder(self) -> Path:
        """The cell's own folder."""
        return self.cells / self.key

    @property
    def results(self) -> Path:
        """Where a finished run's files are."""
        return self.folder / RESULTS

    @property
    def done(self) -> bool:
        """Whether it ended well."""
        return all((self.results / name).is_file() for name in FILES) and not (self.results / MIXED).exists()

    def error(self) -> str:
        """Why it failed, in one line; nothing when it did not, or was killed."""
        try:
            return (self.folder / ERROR).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


class CellRun(Run):
    """The run of one cell, with a results folder of its own.

    Raises:
        UserError: as `Run` does; and in `model_identity`, if configuration or corpora are not what the sweep was made from.
    """

    def __init__(self, cell: Cell) -> None:
        self.of = cell
        super().__init__(cell.experiment, cell.variant, cell.overrides, cell.cells, [cell.protocol], cell.root,
                         RunOptions(every=cell.checkpoint_every, processes=1))  # fmt: skip
        self.results = ResultsFolder(cell.results)

    def model_identity(self, trial: Trial) -> dict[str, Any]:
        """The model's identity, which has to be the one that gave the cell's folder its name."""
        found = super().model_identity(trial)
        changes = difference(dict(self.of.identity), movable(found))
        if changes:
            raise UserError(f"what is here is not what the sweep was made from ({changes[0]}); start the sweep again")
        return found


def movable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A model's identity (`metaser.experiment.Run.model_identity`) without where it is computed, which another machine decides."""
    return {name: value for name, value in identity.items() if name != "device"}


def work(cell: Cell) -> bool:
    """Runs a cell, its output going to its log; whether it ended well. What went wrong is in ``error.txt``."""
    if cell.done:  # by another sweep, or before Slurm ran it again
        return True
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / ERROR).unlink(missing_ok=True)
    with logged(cell.folder / LOG):
        print(f"metaser: {time.strftime('%Y-%m-%d %H:%M:%S')}, {platform.node()}: {cell}")
        try:
            CellRun(cell).carry_out(load(cell.experiment).render)
            return True
        except UserError as error:
            reason = error.lines[0] if isinstance(error, PartialError) else str(error)
            print(f"metaser: {reason}", file=sys.stderr)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            traceback.print_exc()
        write_text(cell.folder / ERROR, reason)
        return False


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Appends to a file all that Python and the libraries below it print."""
    with open(path, "a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(log.fileno(), number)
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
