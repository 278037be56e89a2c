"""A run's results folder, and the partial one beside it, from which nothing that is finished can be lost.

``results/<experiment>/<variant>/<real|synthetic>/`` holds whole results. Beside it, ``<real|synthetic>.partial/`` holds what
an unfinished run has done: a file per finished model (`metaser.reporting.kept`), checkpoints, logs.

When all models are there, the results are written whole in the partial folder, then copied into the final one file by file,
each to a temporary name that is then renamed. No folder is renamed, so the final one may be a link, a mount point or on
another file system. A kill at any moment leaves one of three states, and the same command ends each of them well:

* `MIXED` is in the final folder: the models are all there, and the results are copied again;
* `COMPLETE` is there, but not `MIXED`: the results are complete, and what was kept beside them is still to be removed;
* neither: the results are complete, or none of the new ones is in the final folder yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaser.reporting.kept import CHECKPOINTS, LOGS, MODELS
from metaser.reporting.results import write_json
from metaser.runtime.errors import UnwritableError, UserError
from metaser.runtime.files import alone, proven_folder, remove_unfinished, replacing, write_text

#: In a final folder: that it is a mix of two runs.
MIXED = "INCOMPLETE.txt"
NOTE = "This folder holds files of two runs, since the end of the later one was cut off. Run the same command again.\n"

#: In a final folder: that it is complete, and whose models are still to be removed from the partial one.
COMPLETE = ".complete"

#: In a partial folder: the results, before they are copied; and what the processes of a run share.
OUTPUTS, SHARED = "outputs", "shared"

#: Where training's time goes, which is written during the run.
PROFILE = "profile.txt"

#: The files that runs wrote before ``run.json`` listed them.
FILES = (
    "metrics.csv", "tasks.csv", "summary.csv", "confusion.csv", "timing.csv", "paired.csv", "crossings.csv", "optima.csv",
    "table.md", PROFILE, "run.json", "accuracy.png", "confusion.png", "convergence-accuracy.png",
    "convergence-loss.png", "fractions.png", "loss.png", "macro_f1.png", "steps.png", "rounds.csv", "cost.csv", "cost.png",
    "report_times.png", "limit.csv", "limit.png",
)  # fmt: skip


class ResultsFolder:
    """Where one run writes.

    Args:
        final: The folder that the finished run will be found in.

    Attributes:
        path: The partial folder.
        outputs: The folder in it for the results, before they are published.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.partial")
        self.outputs = self.path / OUTPUTS

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write results into, which are published when the block ends well, and not at all else.

        Raises:
            UserError: as `held`.
        """
        with self.held():
            yield self.fresh()
            self.publish({})
            self.clear()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The partial folder, made if need be, for this process alone; what is kept in it stays, however the block ends.

        Raises:
            UserError: if there is a file or a broken link where a folder should be, a folder cannot be written, or another
                run is writing here; UnwritableError if writing fails later.
        """
        try:
            self._prove()
            with self._locked():
                self._remove_leftovers()
                try:
                    yield
                finally:
                    if self.path.exists():
                        self._remove_leftovers()
                        remove_empty(self.path)
        except OSError as error:
            raise UnwritableError(f"cannot write {error.filename or self.final} ({error.strerror or error})") from None
        finally:
            if not self.final.exists():  # folders that were made for a run that failed
                remove_empty(self.final.parent)
                remove_empty(self.final.parent.parent)

    def fresh(self) -> Path:
        """The folder for the results, empty."""
        shutil.rmtree(self.outputs, ignore_errors=True)
        self.outputs.mkdir(parents=True)
        return self.outputs

    def publish(self, models: Mapping[str, str]) -> None:
        """Copies the results into the final folder, and removes what an earlier run wrote there and this one does not.

        Args:
            models: Name → digest of the models that they are of, for `complete`.

        Raises:
            UnwritableError: if the final folder cannot be written; the same again ends it well.
        """
        names = sorted(entry.name for entry in self.outputs.iterdir())
        facts = self.outputs / "run.json"
        if facts.exists():
            write_json({**json.loads(facts.read_text(encoding="utf-8")), "files": names}, facts)
        write_text(self.final / MIXED, NOTE)
        for name in names:
            if name != facts.name:
                self._copy(name)
        for name in set(written(self.final)) - set(names):
            (self.final / name).unlink(missing_ok=True)
        if facts.exists():  # last, for it names the earlier run's files
            self._copy(facts.name)
        write_text(self.final / COMPLETE, json.dumps(dict(models)))
        (self.final / MIXED).unlink()

    def complete(self) -> dict[str, str] | None:
        """Name → digest of the models that the final folder has complete results of, while they are still kept beside it."""
        if (self.final / MIXED).exists():
            return None
        try:
            models = json.loads((self.final / COMPLETE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return {str(name): str(digest) for name, digest in models.items()} if isinstance(models, dict) else {}

    def clear(self, wholly: bool = True) -> None:
        """Removes what was kept of the models that the final folder has complete results of; those of others stay.

        Args:
            wholly: The partial folder itself, too, if it is empty then.
        """
        for name in self.complete() or {}:
            if Path(name).name == name:
                (self.path / MODELS / f"{name}.json").unlink(missing_ok=True)
                (self.path / LOGS / f"{name}.txt").unlink(missing_ok=True)
                shutil.rmtree(self.path / CHECKPOINTS / name, ignore_errors=True)
        self._remove_drawn()
        self._remove_leftovers()
        if wholly:
            remove_empty(self.path)
        (self.final / COMPLETE).unlink(missing_ok=True)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Writes ``run.json`` of an unfinished run, in place of what an earlier part of it has written and drawn."""
        self._remove_drawn(but=PROFILE)
        write_json(dict(facts), self.path / "run.json")

    def begin_over(self) -> None:
        """Removes everything that an unfinished run left."""
        for name in (MODELS, CHECKPOINTS, LOGS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self._remove_drawn()

    def _prove(self) -> None:
        if self.final.is_symlink() and not self.final.exists():
            raise UserError(f"{self.final}: is a link to nothing; make the folder that it names, or remove it")
        if self.final.exists() and not self.final.is_dir():
            raise UserError(f"{self.final}: is a file, where the run's folder should be; move it away")
        proven_folder(self.path, "the results folder (--results)")
        if self.final.exists():
            try:
                proven_folder(self.final, "the results folder (--results)")
            except UserError:
                remove_empty(self.path)
                raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The partial folder for this process alone; made again where another run has removed it in between."""
        while True:
            self.path.mkdir(exist_ok=True)
            with alone(self.path, "run") as handle:
                same = False
                with contextlib.suppress(FileNotFoundError):
                    same = os.path.samestat(os.fstat(handle), os.stat(self.path))
                if same:
                    yield
                    return

    def _remove_leftovers(self) -> None:
        """Removes what can be made again, and folders in which nothing is kept."""
        remove_unfinished(self.path, nested=True)
        if self.final.is_dir():
            remove_unfinished(self.final)
        for name in (OUTPUTS, SHARED):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for folder in (self.path / CHECKPOINTS).glob("*/"):
            if not any(folder.glob("*.safetensors")):
                shutil.rmtree(folder, ignore_errors=True)
        for name in (MODELS, CHECKPOINTS, LOGS):
            remove_empty(self.path / name)
        if not any((self.path / name).exists() for name in (MODELS, CHECKPOINTS, LOGS)):
            self._remove_drawn()

    def _remove_drawn(self, but: str = "") -> None:
        """Removes what was written about the models that are kept."""
        for name in written(self.path):
            if name != but:
                (self.path / name).unlink(missing_ok=True)

    def _copy(self, name: str) -> None:
        with replacing(self.final / name) as temporary:
            shutil.copyfile(self.outputs / name, temporary)


def written(folder: Path) -> list[str]:
    """The files in a folder that a run wrote, as its ``run.json`` lists them; a user's own are never among them."""
    try:
        listed: Any = json.loads((folder / "run.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        listed = None
    known = [*listed, "run.json"] if isinstance(listed, list) else FILES
    names = {name for name in known if isinstance(name, str) and Path(name).name == name}
    return [name for name in sorted(names) if (folder / name).is_file()]


def remove_empty(folder: Path) -> None:
    """Removes a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def refuse_mixed(folder: Path) -> None:
    """Refuses a folder that holds files of two runs.

    Raises:
        UserError: naming it.
    """
    if (folder / MIXED).exists():
        raise UserError(f"{folder}: holds files of two runs, since the end of the later one was cut off; run the same "
                        f"command again")  # fmt: skip
