"""Where metaser reads and writes: the data root, the cache, and files that are whole or absent, never half-written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from metaser.runtime.errors import UnwritableError, UserError, first_line

#: How much `proven_folder` writes; what small results take.
PROOF_BYTES = 256 * 1024

#: How `replacing` names what it writes.
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")

#: What may stand where a file is wanted; opening or reading some of them blocks, or never ends.
NO_FILES = {
    stat.S_IFDIR: "Is a directory", stat.S_IFIFO: "Is a pipe", stat.S_IFSOCK: "Is a socket", stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
}  # fmt: skip


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file, or what links lead to, for reading bytes; never blocks.

    Raises:
        OSError: if it cannot be opened, or is something else; ``strerror`` says what.
    """

    def refuse_others(mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, NO_FILES.get(stat.S_IFMT(mode), "Is no file"))

    try:
        refuse_others(os.stat(path).st_mode)  # before, for opening a device may already do something
        handle = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except ValueError as error:  # no name that a file can have, such as one with a NUL
        raise OSError(errno.EINVAL, first_line(error)) from None
    try:
        refuse_others(os.fstat(handle.fileno()).st_mode)  # after, for it may have been replaced
    except OSError:
        handle.close()
        raise
    return handle


def data_root(given: Path | str | None = None) -> Path | None:
    """The data root: the one given, else what ``METASER_DATA`` names; None when there is neither.

    Raises:
        UserError: if it is no readable folder.
    """
    value = str(given) if given is not None else os.environ.get("METASER_DATA", "").strip()
    key = "the data root" if given is not None else "METASER_DATA"
    return readable_folder(expanded(value, key), key) if value else None


def expanded(value: str, key: str) -> Path:
    """An absolute path, ``~`` expanded.

    Raises:
        UserError: naming ``key``, if there is no such user.
    """
    try:
        return Path(value).expanduser().absolute()
    except (RuntimeError, ValueError):
        raise UserError(f"{key}: {value}: there is no such user's home; give a path") from None


def readable_folder(path: Path, key: str) -> Path:
    """``path`` itself when it is a readable folder.

    Raises:
        UserError: naming ``key`` and ``path`` when it is not.
    """
    if not os.path.exists(path):
        raise UserError(f"{key}: no folder {path}; give a folder that holds one folder per corpus")
    if not os.path.isdir(path):
        raise UserError(f"{key}: {path} is a file; give a folder that holds one folder per corpus")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{key}: folder {path} cannot be read; check its permissions")
    return path


def cache_folder(*parts: str) -> Path:
    """A folder of the user's cache (``METASER_CACHE``, else ``XDG_CACHE_HOME/metaser``, else ``~/.cache/metaser``), made.

    Raises:
        UserError: if it cannot be made.
    """
    base = os.environ.get("METASER_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "metaser")
    key = "the cache folder (METASER_CACHE)"
    folder = writable_folder(expanded(base, key), key)
    for part in parts:
        folder = subfolder(folder, part)
    return writable_folder(folder, key) if parts else folder


def subfolder(folder: Path, name: str) -> Path:
    """A folder in another, made if need be with the other's permissions: users who share the one share both.

    Raises:
        UnwritableError: if it cannot be made.
    """
    path = folder / name
    try:
        path.mkdir()
        path.chmod(stat.S_IMODE(folder.stat().st_mode))
    except FileExistsError:
        pass
    except OSError as error:
        raise UnwritableError(f"cannot make {path} ({error.strerror})") from None
    return path


def writable_folder(path: Path, key: str) -> Path:
    """``path`` itself, made if need be, once a file could be written in it.

    Raises:
        UserError: naming ``key`` and ``path`` when it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{key}: cannot write in {path} ({error.strerror}); choose a writable folder") from None
    return path


def proven_folder(path: Path, key: str) -> Path:
    """`writable_folder`, proved: a file is written there, flushed to the disk and renamed, before any work is spent.

    Raises:
        UserError: naming ``key`` and ``path`` when that does not work, such as where the disk is full or read-only.
    """
    proof = writable_folder(path, key) / f".{0:016x}.tmp"
    try:
        with replacing(proof) as temporary:
            temporary.write_bytes(bytes(PROOF_BYTES))
    except UnwritableError as error:
        raise UserError(f"{key}: {error}; make room, or choose another folder") from None
    finally:
        with contextlib.suppress(OSError):
            proof.unlink()
    return path


@contextlib.contextmanager
def replacing(path: Path, beside: Path | None = None, synced: bool = True) -> Iterator[Path]:
    """A temporary name to write to; renamed to ``path`` (after fsync) when the block ends well.

    When the block raises, the temporary file is removed and what ``path`` held before stays as it was.

    Args:
        path: The file to write.
        beside: The folder of the temporary file, on the same file system; that of ``path`` when not given.
        synced: Whether it has to be on the disk before it is renamed.

    Raises:
        UnwritableError: if the disk is full or the folder cannot be written.
    """
    # Random rather than by process: processes of two machines or containers have the same numbers.
    temporary = (beside or path.parent) / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if synced:
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
        if synced:
            sync_folder(path.parent)
    except OSError as error:
        raise UnwritableError(f"cannot write {path} ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def alone(folder: Path, what: str, instead: str = ", or give another --results") -> Iterator[int]:
    """Keeps other processes from the same folder; the system lets them in when this one ends, however it ends.

    Args:
        folder: An existing one.
        what: What the processes are, such as ``sweep``.
        instead: What a user can do instead of waiting.

    Yields:
        The open folder's descriptor.

    Raises:
        UserError: if another process is in such a block.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another {what} is writing it; wait for it{instead}") from None
        except OSError:
            pass  # a file system without locks
        yield handle
    finally:
        os.close(handle)


def remove_unfinished(folder: Path, older_than: float = 0.0, nested: bool = False) -> None:
    """Removes what `replacing` left in a folder when its process was killed.

    Args:
        folder: Where to look.
        older_than: Age in s of what is removed, where others may be writing there.
        nested: Also in the folders below.
    """
    for path in folder.rglob(".*.tmp") if nested else folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process may have been quicker, or own it
            if TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime >= older_than:
                path.unlink()


def sync_folder(path: Path) -> None:
    """Makes sure that a name in a folder is on the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json(path: Path) -> Any:
    """What a JSON file of our own holds.

    Raises:
        UserError: naming it, if it is not there or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); remove it") from None


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` as UTF-8, whole or not at all.

    Raises:
        UnwritableError: if it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_sealed(path: Path, tree: Any) -> None:
    """Writes JSON with its own digest, which `read_sealed` asks for.

    Raises:
        UnwritableError: if it cannot be written.
    """
    write_text(path, json.dumps({"digest": seal(tree), "content": tree}))


def read_sealed(path: Path) -> Any:
    """What `write_sealed` wrote; None if the file is not there, or holds anything else."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept["content"] if kept["digest"] == seal(kept["content"]) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def seal(tree: Any) -> str:
    """SHA-256 of a JSON tree."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
