"""A run's results folder: whole files in the end, what is needed to go on until then, and where every number is from.

``results/<experiment>/<variant>/<real|synthetic>/`` is replaced when a run ends well and not before: a run writes beside
it, in ``.<real|synthetic>.partial``. A run that was stopped leaves that folder, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from metaser.errors import StoppedError, UnwritableError, UserError
from metaser.files import remove_unfinished, replacing, writable_folder, write_text
from metaser.parallel import available_cores
from metaser.spreadsheet import guarded

#: What identifies a number; every results file begins with these columns.
KEYS = ("experiment", "variant", "algorithm", "protocol", "data", "source", "target", "shots")

#: The columns of ``metrics.csv``, a row per evaluation and metric.
METRICS = (*KEYS, "seed", "split", "iteration", "metric", "mean", "ci95", "n_tasks")

#: The columns of ``summary.csv`` (and of ``timing.csv``, which holds what was measured with a clock).
SUMMARY = (*KEYS, "metric", "mean", "ci95", "n_tasks", "n_seeds", "paper")

#: The columns of ``confusion.csv``, a row per pair of classes.
CONFUSION = (*KEYS, "seed", "true", "predicted", "count")

#: Enough digits to tell any two results apart, few enough to read.
FLOAT_FORMAT = "%.6f"

PACKAGES = ("metaser", "torch", "torchaudio", "learn2learn", "numpy", "scipy", "scikit-learn", "pandas")


class ResultsFolder:
    """Where one run writes.

    Args:
        final: The folder that the finished run will be found in.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f".{final.name}.partial")

    @contextlib.contextmanager
    def writing(self, identity: Mapping[str, Any] | None = None, resume: bool = True) -> Iterator[Path]:
        """The partial folder; becomes the final one when the block ends well.

        When it does not, the folder is removed, unless the run has an identity and was merely stopped (Ctrl-C, a signal, a
        full disk): then it stays, and the next run of the same identity is given it as it is.

        Args:
            identity: What decides the run's numbers, as JSON takes it; a run without one is never resumed.
            resume: Whether a folder that is there is used; if not, it is removed.

        Raises:
            UserError: if the folder cannot be written, another run is writing it, or it belongs to a run of another
                identity.
        """
        writable_folder(self.final.parent, "the results folder (--results)")
        if self.final.exists() and not self.final.is_dir():
            raise UserError(f"{self.final}: is a file, where the run's folder should be; move it away")
        kept = False
        try:
            with self._locked():
                self._prepare(identity if resume else None)
                if identity is not None:
                    write_text(self.path / IDENTITY, json.dumps(identity, indent=1, sort_keys=True))
                try:
                    yield self.path
                except UserError as error:
                    kept = identity is not None and isinstance(error, StoppedError)
                    raise
                except (KeyboardInterrupt, SystemExit, OSError):
                    kept = identity is not None
                    raise
                self._finish()
        except OSError as error:
            raise UnwritableError(f"cannot write {error.filename or self.final} ({error.strerror})") from None
        except BusyError:
            kept = True
            raise
        finally:
            if not kept:
                shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # folders made for a run that failed; one that holds anything stays
                for folder in (self.final.parent, self.final.parent.parent):
                    folder.rmdir()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The partial folder, made if need be, for this process alone; the system lets go of it when the process ends."""
        self.path.mkdir(exist_ok=True)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{self.final}: another run is writing it; wait for it, or give another --results"
                ) from None
            yield
        finally:
            os.close(handle)

    def _prepare(self, identity: Mapping[str, Any] | None) -> None:
        """Empties the partial folder, or leaves it if it is of a run of the same identity.

        Raises:
            UserError: if it is of another one, with the difference.
        """
        try:
            before = json.loads((self.path / IDENTITY).read_text(encoding="utf-8")) if identity is not None else None
        except (OSError, ValueError, RecursionError):
            before = None
        if before is not None and identity is not None:
            changes = difference(before, json.loads(json.dumps(identity)))
            if not changes:
                return
            more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
            raise BusyError(f"{self.path}: holds a stopped run of another configuration ({'; '.join(changes[:SHOWN])}{more}); "
                       f"set these back to go on with it, or use --no-resume to begin anew")  # fmt: skip
        for entry in self.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def _finish(self) -> None:
        for name in (IDENTITY, *WORKING):
            entry = self.path / name
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        remove_unfinished(self.path)  # of a run that was killed while it wrote a file
        previous = self.final.with_name(f".{self.final.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        if self.final.exists():
            os.replace(self.final, previous)
        os.replace(self.path, self.final)
        shutil.rmtree(previous, ignore_errors=True)


class BusyError(UserError):
    """The partial folder belongs to another run, which keeps it."""


#: In a partial folder: whose it is, and the folders that a finished run has no use for.
IDENTITY, CELLS, CHECKPOINTS = "identity.json", "cells", "checkpoints"
WORKING = (CELLS, CHECKPOINTS)

#: Differences between two configurations that an error names.
SHOWN = 3


def difference(before: Any, now: Any, key: str = "") -> list[str]:
    """Where two JSON trees differ, a line each: ``training.iterations: 100 there, 200 now``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [
            line for name in keys for line in difference(before.get(name), now.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if before == now else [f"{key}: {before!r} there, {now!r} now"]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame with the number format of all results, text guarded by `metaser.spreadsheet`, whole or not at all."""
    with replacing(path) as temporary:
        guarded(frame).to_csv(temporary, index=False, float_format=FLOAT_FORMAT)


def provenance(repository: Path, device: str = "cpu") -> dict[str, Any]:
    """Commit, versions and hardware.

    Args:
        repository: A folder of the repository whose commit is meant.
        device: What the networks were computed on.
    """
    return {
        "commit": commit(repository),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {"machine": platform.machine(), "system": platform.system(), "processor": processor(),
                     "cores": available_cores(), "device": device},
    }  # fmt: skip


def commit(repository: Path) -> str:
    """The checked-out commit, with ``-dirty`` when tracked files outside results/ differ from it; empty outside git."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    try:
        head = git("rev-parse", "HEAD")
        changed = git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)results")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("-dirty" if changed.returncode == 1 else "") if head.returncode == 0 else ""


def processor() -> str:
    """The processor's name where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def write_json(tree: dict[str, Any], path: Path) -> None:
    """Writes readable JSON, whole or not at all."""
    write_text(path, json.dumps(tree, indent=2, sort_keys=True) + "\n")
