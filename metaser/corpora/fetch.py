"""What ``metaser data fetch`` does: a corpus from where its owners let anyone have it to its folder below the data root.

All is done in a hidden folder beside, which is renamed when whole: a corpus is there or not, never half.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pooch

from metaser.corpora import find
from metaser.corpora.base import Corpus, Download
from metaser.corpora.download import download
from metaser.corpora.unpack import unpack
from metaser.corpora.verify import compare, counted
from metaser.runtime.errors import UnwritableError, UserError, plain
from metaser.runtime.files import alone
from metaser.runtime.progress import progress


def fetch_all(names: Sequence[str], root: Path | None) -> bool:
    """Fetches the named corpora and says what came; for those that must be asked for, where and how.

    Returns:
        Whether all are there now, and hold as many clips per emotion as their owners' release.

    Raises:
        UserError: if there is no such corpus or no data root, or (after the others are fetched) some cannot be fetched.
    """
    corpora = [find(name) for name in dict.fromkeys(names)]
    whole, failed = True, []
    for corpus in corpora:
        try:
            whole = obtain(corpus, root) and whole
        except UnwritableError:  # the others could not be written either
            raise
        except UserError as error:
            if len(corpora) == 1:
                raise
            print(f"metaser: {error}", file=sys.stderr, flush=True)
            failed.append(corpus.name)
    if failed:
        raise UserError(f"not fetched: {', '.join(failed)}")
    return whole


def obtain(corpus: Corpus, root: Path | None) -> bool:
    """One corpus of `fetch_all`.

    Raises:
        UserError: as `fetch`; if there is no data root.
    """
    if corpus.generated:
        print(f"{corpus.name}: metaser makes it itself; nothing to fetch")
        return True
    if root and (there := corpus.folder(root)):
        print(plain(f"{corpus.name}: is there already, and left as it is; to fetch it anew, move {there} away"))
        return True
    if not corpus.downloads:
        print(f"{corpus.name}: is not free to fetch ({corpus.licence}): {corpus.access}; "
              f"then put it in a folder '{corpus.name}' below the data root")  # fmt: skip
        return False
    if root is None:
        raise UserError("no data root to fetch into: set METASER_DATA, or give --root, a folder for all corpora")
    return told(corpus, fetch(corpus, root))


def fetch(corpus: Corpus, root: Path) -> Path:
    """Downloads and unpacks a corpus; its folder below the data root.

    Raises:
        StoppedError: if a transfer broke off, or the disk is full: what has come is kept, and the same call goes on.
        UserError: if a server refuses, a checksum is wrong, or an archive is damaged, evil or another corpus's; all of it
            is removed. If its folder is there, or another process fetches it.
    """
    with workplace(root / f".{corpus.name}.fetch") as work:
        if os.path.lexists(taken := corpus.folder(root) or root / corpus.name):
            raise UserError(f"corpus {corpus.name}: {taken} is there already; move it away")
        print(f"{corpus.name}: {corpus.title}, {corpus.licence}", flush=True)
        archives = [fetched(corpus, item, work) for item in corpus.downloads]
        unpacked = work / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # a killed run's
        if unpacked.is_symlink():  # which is not followed
            unpacked.unlink()
        try:
            for item, archive in zip(corpus.downloads, archives, strict=True):
                with progress(f"unpacking {corpus.name} ({item.file})") as update:
                    unpack(archive, unpacked / item.into, flat=bool(item.into), progress=update)
            unpacked.mkdir(exist_ok=True)
            if not corpus.scan(unpacked).rows:
                raise corpus.without_clips(unpacked)
            os.rename(unpacked, root / corpus.name)
        except UnwritableError:
            raise
        except UserError as error:
            for archive in archives:
                archive.unlink(missing_ok=True)  # the same command would find the same again
            raise UserError(f"corpus {corpus.name}: {error}; it is removed, nothing was unpacked") from None
        except OSError as error:
            raise UnwritableError(f"cannot write {root / corpus.name} ({error.strerror})") from None
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
    return root / corpus.name


def fetched(corpus: Corpus, item: Download, work: Path) -> Path:
    """One of a corpus's archives, and what is said of it.

    Raises:
        UserError: as `fetch`.
    """
    if item.url.startswith("http:") and not item.checksum:
        print(f"{corpus.name}: {item.file} comes over plain http and without a published checksum, so a change on the "
              f"way would not be noticed; only the names and the number of its clips are checked", flush=True)  # fmt: skip
    print(f"{corpus.name}: fetching {item.url}", flush=True)
    try:
        with progress(f"fetching {corpus.name} ({item.file})", item.size) as update:
            archive = download(item, work, update)
    except UnwritableError:
        raise
    except UserError as error:
        raise type(error)(f"corpus {corpus.name}: {error}; to get it by hand: {corpus.access}") from None
    if not item.checksum:
        print(f"{corpus.name}: no checksum of {item.file} is published; its SHA-256 is "
              f"{pooch.file_hash(str(archive))}", flush=True)  # fmt: skip
    return archive


@contextlib.contextmanager
def workplace(work: Path) -> Iterator[Path]:
    """A folder, made if need be, as long as no other process holds it; removed where there is nothing in it to go on from.

    Raises:
        UserError: if another process holds it.
        UnwritableError: if it cannot be made, or is a link.
    """
    try:
        work.mkdir(exist_ok=True)
        if work.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "Is a link")
    except OSError as error:
        raise UnwritableError(f"cannot write {work} ({error.strerror})") from None
    with alone(work, "process", instead=""):
        try:
            yield work
        finally:
            with contextlib.suppress(OSError):
                work.rmdir()


def told(corpus: Corpus, folder: Path) -> bool:
    """Prints what came, by file names; whether it is as much as the owners' release."""
    scan = corpus.scan(folder)
    counts = compare(scan.table["emotion"], corpus.expected.emotions if corpus.expected else None)
    lines = [f"{corpus.name}: {len(scan.table)} clips in {folder}", f"  clips per emotion: {counted(counts)}"]
    if others := len(scan.misnamed) + len(scan.twice):
        lines += [f"  {others} files are misnamed or there twice: `metaser data verify {corpus.name}` names them"]
    print("\n".join(map(plain, lines)), flush=True)
    return not others and all(found == expected for found, expected in counts.values())
