"""A file from the network: by pooch, taken up where an earlier transfer broke off, checked against its checksum."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
import requests

from metaser import __version__
from metaser.corpora.base import Download, Progress
from metaser.runtime.errors import StoppedError, UnwritableError, UserError, first_line

#: Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (20, 60)

#: The most bytes that a file of unknown size may have.
LARGEST = 4 << 30

CHUNK = 1 << 16
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def download(item: Download, folder: Path, progress: Progress | None = None) -> Path:
    """The file in ``folder``, fetched first if it is not there already.

    Args:
        item: Which.
        folder: Where to keep it; until all has come, what has is in ``item.file + ".part"``.
        progress: Called with (bytes that have come, bytes in all), where the server says how many there are.

    Raises:
        StoppedError: naming the address, if the transfer broke off: the same call goes on from where it did.
        UserError: if the server refuses, sends something else, or the checksum is another; the file is removed.
        UnwritableError: if it cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    part = folder / f"{item.file}.part"
    try:
        path = Path(pooch.retrieve(item.url, None, fname=item.file, path=folder, downloader=into(part, item, progress)))
        if item.checksum:
            algorithm, expected = item.checksum.split(":")
            if (found := pooch.file_hash(str(path), algorithm)) != expected:
                path.unlink()
                raise UserError(f"{item.url}: wrong checksum, the file is removed: {algorithm.upper()} expected "
                                f"{expected}, found {found}")  # fmt: skip
    except (requests.RequestException, ValueError) as error:  # the latter of an address that a server redirects to
        kept = f"{there(part)} bytes are kept in {part} and the same command goes on from there"
        raise StoppedError(f"{item.url}: {reason(error)}; {kept if there(part) else 'try again'}") from None
    except OSError as error:
        raise UnwritableError(f"cannot write in {folder} ({error.strerror or error})") from None
    finally:
        if not there(part):
            part.unlink(missing_ok=True)
    return path


def into(part: Path, item: Download, progress: Progress | None) -> Callable[..., None]:
    """pooch's way of fetching, through ``part``: as often as a transfer that breaks off got further than those before."""

    def fetch(url: str, output: str, _: Any, **__: Any) -> None:
        while True:
            before = there(part)
            try:
                transfer(url, part, item, progress)
                return os.replace(part, output)
            except requests.RequestException:
                if there(part) <= before:
                    raise

    return fetch


def transfer(url: str, part: Path, item: Download, progress: Progress | None) -> None:
    """One request for what ``part`` lacks, from the beginning where the server knows no ranges.

    That the file has become another one meanwhile is for the checksums to find, its own or those in the archive.

    Raises:
        requests.RequestException: if it broke off.
        UserError: if another request would not mend it.
    """
    had = there(part)
    # Compressed on the way, lengths and ranges would not be the file's.
    headers = {"User-Agent": f"metaser/{__version__}", "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{had}":
                return  # all had come before
            part.unlink(missing_ok=True)
            raise requests.RequestException("the server's file is another one now")
        if 400 <= response.status_code < 500:
            raise UserError(f"{url}: the server refuses ({response.status_code} {response.reason})")
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(f"{url}: the server sends a web page, no archive")
        start = 0
        if response.status_code == requests.codes.partial_content:
            match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start = int(match[1]) if match else 0
            if start != had:
                part.unlink(missing_ok=True)
                raise requests.RequestException("the server sends another stretch than was asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else item.size
        if total and (total > LARGEST or item.size not in (None, total)):
            part.unlink(missing_ok=True)
            raise UserError(f"{url}: the server's file has {total} bytes, not {item.size or f'up to {LARGEST}'}")
        done = start
        with open(part, "ab" if start else "wb") as handle:
            for chunk in response.iter_content(CHUNK):
                handle.write(chunk)
                done += len(chunk)
                if done > (total or LARGEST):
                    handle.truncate(0)
                    raise UserError(f"{url}: the server sends more than {total or LARGEST} bytes")
                if progress and total:
                    progress(done, total)
    if total and done < total:
        raise requests.RequestException(f"{done} of {total} bytes came")


def there(part: Path) -> int:
    """How many bytes have come."""
    return part.stat().st_size if part.exists() else 0


def reason(error: Exception) -> str:
    """Why a transfer broke off, in fewer words than the library's."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server fails ({error.response.status_code} {error.response.reason})"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    return "no connection" if isinstance(error, requests.ConnectionError) else first_line(error)
