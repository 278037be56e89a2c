"""A ZIP archive from somebody else into a folder: every member is checked before the first is written.

Whoever made the archive, nothing is written outside the folder, nothing but audio and text is written at all, and no
more of it than a corpus has.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from metaser.corpora.base import Progress
from metaser.corpora.files import EXTENSIONS
from metaser.runtime.errors import CONTROL, UnwritableError, UserError, first_line, shown

#: What is written of an archive, by extension (lower case): clips, labels, and what the owners say of them.
WRITTEN = (*EXTENSIONS, ".csv", ".json", ".md", ".txt", ".xlsx")

#: What no corpus that may be fetched comes near: members; bytes of all members; bytes of a member's name (a path's parts
#: may have 255 each); bytes of the archive's own directory, which `zipfile` reads into memory at once.
MEMBERS, BYTES, NAME, DIRECTORY = 20_000, 4 << 30, 255, 16 << 20

#: Speech does not shrink far: more than so many times the archive, and a MiB, is a bomb.
RATIO, SLACK = 20, 1 << 20

CHUNK = 1 << 16


class Archive(io.BufferedReader):
    """A file of which no header can have more read into memory than `DIRECTORY`."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As `io.BufferedReader.read`.

        Raises:
            zipfile.BadZipFile: if so much is asked for.
        """
        if size is not None and size > DIRECTORY:
            raise zipfile.BadZipFile(f"its directory claims {size} bytes")
        return super().read(size)


def unpack(archive: Path, folder: Path, *, flat: bool = False, progress: Progress | None = None) -> list[Path]:
    """Writes an archive's audio and text into ``folder``, made if need be; all other members are read and checked, too.

    Args:
        archive: A ZIP file.
        folder: Where to; nothing is overwritten, and no link below it is followed.
        flat: Whether clips may lie in ``folder`` itself. A folder that all files share is left out, but for the one that
            holds clips when this is False: ``wav/03a01Fa.wav`` stays as it is.
        progress: Called with (members done, members in all).

    Returns:
        What was written, in the archive's order.

    Raises:
        UserError: naming the archive, if it is damaged, or holds what no corpus does: a path out of the folder, a link or
            a device, an encrypted member, one there twice, too many, too much. Nothing was written outside ``folder``.
        UnwritableError: if a file cannot be written.
    """
    try:
        with Archive(io.FileIO(archive)) as handle, zipfile.ZipFile(handle) as file:
            found = file.infolist()
            most = min(BYTES, RATIO * archive.stat().st_size + SLACK)
            if len(found) > MEMBERS:
                raise zipfile.BadZipFile(f"it has {len(found)} members, more than {MEMBERS}")
            if (claimed := sum(member.file_size for member in found)) > most:
                raise zipfile.BadZipFile(f"it claims to hold {claimed} bytes, more than {most}")
            places = placed([(member, checked(member)) for member in found], flat)
            for done, member in enumerate(found, 1):
                place = places.get(member)
                with file.open(member) as source:
                    most -= poured(chunks(source), member, folder, place, most)
                if progress:
                    progress(done, len(found))
            return [folder / place for place in places.values()]
    except UserError:
        raise
    except Exception as error:  # whatever zipfile and zlib raise at what they cannot read
        raise UserError(f"{archive}: cannot be unpacked ({first_line(error)})") from None


def checked(member: zipfile.ZipInfo) -> PurePosixPath:
    """A member's path, relative to whatever it is unpacked into.

    Raises:
        zipfile.BadZipFile: naming it, if it is none, or the member is no plain file or folder.
    """
    name = member.orig_filename  # `filename` ends at the first NUL
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if CONTROL.search(name) or "\\" in name or ":" in name or len(name.encode()) > NAME:
        wrong = "has a name that no corpus uses"
    elif path.is_absolute() or ".." in path.parts or not path.parts:
        wrong = "leads out of the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        wrong = "is a link or a device"
    elif member.flag_bits & 1:
        wrong = "is encrypted"
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong = f"is packed by method {member.compress_type}"
    elif member.is_dir() and member.file_size:
        wrong = "is a folder with contents of its own"
    else:
        return path
    raise zipfile.BadZipFile(f"its member {shown(name)} {wrong}")


def placed(
    members: Sequence[tuple[zipfile.ZipInfo, PurePosixPath]], flat: bool
) -> Mapping[zipfile.ZipInfo, PurePosixPath]:
    """Where to write the members that are written, without the folder that they share.

    Raises:
        zipfile.BadZipFile: naming a member that is there twice, in any case, or is a folder of another's path, too.
    """
    chosen = {member: path for member, path in members
              if not member.is_dir() and path.suffix.lower() in WRITTEN
              and not any(part.startswith((".", "__MACOSX")) for part in path.parts)}  # fmt: skip
    if not chosen:
        return {}
    shared = PurePosixPath(os.path.commonpath([path.parent for path in chosen.values()]))
    if not flat and any(path.parent == shared and path.suffix.lower() in EXTENSIONS for path in chosen.values()):
        shared = shared.parent
    places = {member: path.relative_to(shared) for member, path in chosen.items()}
    files, folders = set(), {str(parent).casefold() for path in places.values() for parent in path.parents}
    for member, path in places.items():
        name = str(path).casefold()
        if name in files or name in folders:
            raise zipfile.BadZipFile(f"its member {shown(member.orig_filename)} is there twice")
        files.add(name)
    return places


def chunks(source: IO[bytes]) -> Iterator[bytes]:
    """What a member holds.

    Raises:
        zipfile.BadZipFile: also where `zipfile` raises an OSError, which is then none of writing.
    """
    try:
        while chunk := source.read(CHUNK):
            yield chunk
    except OSError as error:
        raise zipfile.BadZipFile(first_line(error)) from None


def poured(
    content: Iterator[bytes], member: zipfile.ZipInfo, folder: Path, place: PurePosixPath | None, most: int
) -> int:
    """Reads a member to its end, and so to its checksum, and writes it where it has a place below the folder; its bytes.

    Raises:
        zipfile.BadZipFile: if it holds more than ``most`` bytes, or not as many as its header says.
        UnwritableError: if it cannot be written.
    """
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(created(folder, place)) if place else None
            for chunk in content:
                count += len(chunk)
                if count > most:
                    raise zipfile.BadZipFile("it holds more than a corpus has")
                if target:
                    target.write(chunk)
    except OSError as error:
        raise UnwritableError(f"cannot write {folder / (place or '')} ({error.strerror or error})") from None
    if count != member.file_size:
        raise zipfile.BadZipFile(f"its member {shown(member.orig_filename)} has {count} of {member.file_size} bytes")
    return count


def created(folder: Path, place: PurePosixPath) -> IO[bytes]:
    """Makes a file below a folder, and the folders on its way; links that are there already are not followed.

    Raises:
        OSError: if it is there, or cannot be made; if a link is on its way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in place.parent.parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            except NotADirectoryError as error:
                raise OSError(error.errno, f"{shown(part)} is a link or no folder") from None
            os.close(here)
            here = below
        return open(place.name, "xb", opener=lambda name, flags: os.open(name, flags, 0o666, dir_fd=here))
    finally:
        os.close(here)
