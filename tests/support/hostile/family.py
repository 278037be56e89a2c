"""A family of bad inputs: tried one after another, each held to end in one line that names the culprit, or well."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from metaser.runtime.errors import UserError
from support.limit import limit

#: How many bad inputs each family tries at least.
TRIED = {
    "damaged audio": 320, "lying headers": 160, "extreme samples": 50, "no clips": 46, "audio, by the command": 12,
    "documents": 70, "damaged settings": 600, "overrides": 250, "settings, by the command": 14,
    "lists of clips": 230, "papers' tables": 110, "trees": 300, "roots": 40, "legends": 110, "label files": 80,
    "checkpoints": 240, "forged checkpoints": 50, "stopped runs": 80, "results": 500, "results, by the command": 20,
}  # fmt: skip

#: What metaser may leave in its cache.
CACHED = re.compile(r"features(/[0-9a-f]{64}(/[0-9a-f]{2}(/[0-9a-f]{64})?)?)?")
#: What would end a line on some terminal, or move about on it.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Seconds that one input may take: many times what any does on a busy machine.
PATIENCE = 120
#: A message no longer than this, for a path alone may have 4096 bytes.
LONGEST = 6000


def prepared(ground: Path, patch: pytest.MonkeyPatch) -> Path:
    """Home, cache, current folder, temporary files and the test's own inputs side by side on the ground, and nothing else."""
    for name in ("home", "cache", "temporary", "here", "own"):
        (ground / name).mkdir()
    for variable, name in (("HOME", "home"), ("METASER_CACHE", "cache"), ("TMPDIR", "temporary")):
        patch.setenv(variable, str(ground / name))
    for variable in ("XDG_CACHE_HOME", "METASER_DATA"):
        patch.delenv(variable, raising=False)
    patch.setattr(tempfile, "tempdir", None)
    patch.chdir(ground / "here")
    return ground


class Family:
    """Tries bad inputs of one kind, and tells at the end of the block which of them went wrong, and how many were tried.

    Going wrong is: any exception but a refusal; a refusal of several lines, or one that does not name what it is about; a
    file written, changed or removed anywhere on the ground, but for the cache's own. Hanging at one input ends the test.

    Args:
        name: A key of `TRIED`.
        ground: A tree that holds home, cache, current folder and all that is read and written.
        output: A folder on it that may be written.
        refusals: The exceptions that are refusals.
    """

    def __init__(
        self, name: str, ground: Path, output: Path | None = None, refusals: tuple[type[Exception], ...] = (UserError,)
    ) -> None:
        self.name, self.ground, self.refusals = name, os.fspath(ground), refusals
        self.output = None if output is None else os.fspath(output)
        self.tried = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Family:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            shown = "\n".join(self.wrong[:20])
            assert not self.wrong, f"{self.name}: {len(self.wrong)} of {self.tried} inputs went wrong:\n{shown}"
            assert self.tried >= TRIED[self.name], f"{self.name}: {self.tried} inputs tried"

    def attempt(self, label: object, call: Callable[[], Any], *names: object) -> Any:
        """Calls once for one bad input; what it gives, or None where it refuses in a line with one of ``names`` in it."""
        self.tried += 1
        before, result, problem = self.snapshot(), None, ""
        try:
            with self.patience(label):
                result = call()
        except self.refusals as error:
            problem = flaw(str(error), names)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__} at {place.filename}:{place.lineno}: {str(error)[:300]}"
        self.judge(label, problem or difference(before, self.snapshot()))
        return result

    def command(self, label: object, run: Callable[[], Any], *names: object, codes: tuple[int, ...] = (2,)) -> None:
        """The same through the command: its exit code is one of ``codes``, and it never shows a traceback."""
        self.tried += 1
        before = self.snapshot()
        try:
            with self.patience(label):
                result = run()
        except Exception as error:
            self.judge(label, "".join(traceback.format_exception(error)[-2:]))
            return
        everything, last = result.stdout + result.stderr, result.stderr.strip().split("\n")[-1]
        if "Traceback" in everything or result.returncode not in codes:
            problem = f"exit code {result.returncode}: {everything[-500:]}"
        elif result.returncode == 2:
            problem = flaw(last, names) if last.startswith("metaser: ") else f"no clear last line: {last[:300]!r}"
        else:
            named = not names or any(str(name) in everything for name in names)
            problem = "" if named else f"not named: {everything[:300]!r}"
        self.judge(label, problem or difference(before, self.snapshot()))

    def patience(self, label: object) -> AbstractContextManager[None]:
        """The time that one input may take."""
        return limit(PATIENCE, lambda: f"{self.name}, input {self.tried} ({label})")

    def judge(self, label: object, problem: str) -> None:
        """Keeps a problem, if there is one, for the end."""
        if problem:
            self.wrong.append(f"{label}: {problem}")

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Every path on the ground, but for the output and the cache's own files, with mode, size and time of change."""
        found: dict[str, tuple[int, int, int]] = {}
        pending, cache = [self.ground], os.path.join(self.ground, "cache", "")
        while pending:
            for entry in os.scandir(pending.pop()):
                if entry.path == self.output:
                    continue
                folder = entry.is_dir(follow_symlinks=False)
                if folder:
                    pending.append(entry.path)
                if not (entry.path.startswith(cache) and CACHED.fullmatch(entry.path.removeprefix(cache))):
                    status = entry.stat(follow_symlinks=False)
                    facts = (0, 0) if folder else (status.st_size, status.st_mtime_ns)
                    found[entry.path] = (status.st_mode, *facts)
        return found


def flaw(message: str, names: tuple[object, ...]) -> str:
    """What is wrong with a refusal's message; empty when nothing is."""
    if CONTROL.search(message):
        return f"not one plain line: {message[:300]!r}"
    if len(message) > LONGEST:
        return f"{len(message)} characters long: {message[:100]!r}"
    if names and not any(CONTROL.sub(lambda found: repr(found[0])[1:-1], str(name)) in message for name in names):
        return f"names none of {[str(name)[-60:] for name in names]}: {message[:300]!r}"
    return ""


def difference(before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]) -> str:
    """What was made, changed or removed from one snapshot to another; empty when nothing was."""
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return f"written, changed or removed: {changed[:5]}" if changed else ""
