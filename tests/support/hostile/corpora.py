"""Trees of files that are no corpus, and workbooks that are no legend."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl

from metaser.corpora import find
from metaser.corpora.base import Corpus
from metaser.corpora.folder import Folder
from support.corpora import NAMES
from support.limit import LIMIT

#: Names that a file can have and few would give it.
ODD_NAMES = (
    b"a\nb.wav", b"a\rb.wav", b"\x1b[2Ja.wav", b"\xff\xfe.wav", b"a\x85b.wav", b"\xe2\x80\xa8.wav", b" .wav", b"-rf.wav",
    b"a" * 251 + b".wav", b"a.wav.wav", b"A.WAV", b"..wav",
    b"a\\b.wav", b"%s{}.wav", b"'\"`$(x).wav", b"\xcc\x81.wav", b"\xf0\x9f\x98\x80.wav",
)  # fmt: skip

#: Things under a clip's name that are none; each is made at the path that it is given.
THINGS: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("gone.wav"),
    "link to its folder": lambda path: path.symlink_to(".."),
    "link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "empty": lambda path: path.touch(),
    "web page": lambda path: path.write_text("<html>not found</html>" * 99),
    "workbook": lambda path: openpyxl.Workbook().save(path),
    "deep folders": lambda path: deep_folders(path.parent),
}


def deep_folders(folder: Path) -> None:
    """Folders in folders, deeper than Python recurses."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def remove(path: Path) -> None:
    """A file, a link or a tree; `shutil.rmtree` recurses, and not as deep as `deep_folders`."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", path], check=True, timeout=LIMIT)


# --- names ---

#: A name that fits each corpus's grammar; those of `test_corpora.NAMES`, and of the corpora that metaser makes.
STEMS: dict[str, list[str]] = {}
for _corpus, _stem, _ in NAMES:
    STEMS.setdefault(_corpus, []).append(_stem)
STEMS |= {
    "synthetic": ["x-ako/akof1_anger_s3_09"],
    "silence": ["session03/session03_silence_17"],
    "mine": ["anna/anger/1", "fear/2"],
}

PIECES = (
    "", "_", "-", "/", ".", " ", "a", "Z", "0", "9", "99", "\n", "é", "\u0663", "..", "~", "F", "wav", "anger", "\\", "'", "\x1b",
)  # fmt: skip
#: How a file's name may end; two of three are a clip's.
ENDS = (".wav", ".wav", ".flac", ".WAV", ".mp3", "", ".wav.txt")


def corpus_named(name: str, folder: Path) -> Corpus:
    """A registered corpus, or one of one's own."""
    return Folder("mine", folder, "el") if name == "mine" else find(name)


def nearly(stem: str, rng: random.Random) -> str:
    """A name that may have lost what made it one: a few characters changed, moved, doubled or lost."""
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(stem) + 1)
        match rng.randrange(4):
            case 0:
                stem = stem[:at] + rng.choice(PIECES) + stem[at:]
            case 1:
                stem = stem[:at] + stem[at + 1 :]
            case 2:
                stem = stem[:at] + rng.choice(PIECES) + stem[at + 1 :]
            case _:
                stem = stem[at:] + stem[:at]
    return stem


def grow(folder: Path, name: str, rng: random.Random) -> None:
    """A tree of eight files, few of which are named as the corpus names its clips, and one thing that is no file."""
    for _ in range(8):
        relative = nearly(rng.choice(STEMS[name]), rng) + rng.choice(ENDS)
        path = folder / relative.strip("/")
        if ".." in path.parts or path.is_dir() or not path.name.strip("."):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:  # a file of that name is there, where now a folder should be
            continue
    list(THINGS.values())[rng.randrange(8)](folder / "thing.wav")
    if name == "iemocap":
        labels = folder / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro04.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("[1.0 - 2.0]\tSes01F_impro04_M003\tneu\t[2.5, 2.5, 2.5]\n")


# --- EmoFilm's workbook ---


def workbook(path: Path, parts: dict[str, bytes], rows: str = "") -> None:
    """EmoFilm's legend with other parts in its archive, or other rows in its first sheet."""
    book = openpyxl.Workbook()
    book.active.title = "female"
    for sheet in (book.active, book.create_sheet("male")):
        sheet.append(["file", "speaker", "film"])
        sheet.append(["f_ans001aen", "Jane Doe", "A film"])
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    if rows:
        sheet = whole["xl/worksheets/sheet1.xml"].decode()
        whole["xl/worksheets/sheet1.xml"] = sheet.replace("</sheetData>", f"{rows}</sheetData>").encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (whole | parts).items():
            dateless = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2026-01-01T00:00:00Z", content)
            archive.writestr(zipfile.ZipInfo(name), dateless)  # the same bytes whenever it is made


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (n, b"&%c;" % (n - 1) * 10) for n in range(98, 108)) + b"]>"  # fmt: skip
SHEET = "xl/worksheets/sheet1.xml"
#: What is in the archive in place of what belongs there; and rows that no sheet has.
PARTS: dict[str, dict[str, bytes]] = {
    "no sheet": {SHEET: b""},
    "a sheet of nothing": {SHEET: b"<worksheet/>"},
    "a sheet cut off": {SHEET: b"<worksheet><sheetData><row"},
    "laughs": {SHEET: LAUGHS + b"<worksheet><sheetData><row><c><v>&k;</v></c></row></sheetData></worksheet>"},
    "laughing strings": {"xl/sharedStrings.xml": LAUGHS + b"<sst><si><t>&k;</t></si></sst>"},
    "no strings": {"xl/sharedStrings.xml": b""},
    "no book": {"xl/workbook.xml": b""},
    "another book": {"xl/workbook.xml": b"<workbook/>"},
    "no types": {"[Content_Types].xml": b""},
    "no relations": {"xl/_rels/workbook.xml.rels": b"<Relationships/>"},
    "elsewhere": {"../../evil.txt": b"x", SHEET: b""},
    "an outer entity": {
        SHEET: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        b"<worksheet><sheetData><row><c><v>&a;</v></c></row></sheetData></worksheet>"
    },
}
ROWS = {
    "the last row": '<row r="1048576"><c r="A1048576"><v>1</v></c></row>',
    "a row beyond": '<row r="99999999999"><c><v>1</v></c></row>',
    "a row below nothing": '<row r="-5"><c><v>1</v></c></row>',
    "no row": '<row r="x"><c><v>1</v></c></row>',
    "a wide row": '<row r="3"><c r="XFD3"><v>1</v></c></row>',
    "a short row": '<row r="3"><c r="A3" t="inlineStr"><is><t>f_ans002aen</t></is></c></row>',
    "an empty row": '<row r="3"/>',
    "no cell": '<row r="3"><c r="???"><v>1</v></c></row>',
    "no string": '<row r="3"><c r="A3" t="s"><v>99999</v></c></row>',
    "a number": '<row r="3"><c r="A3"><v>1e999</v></c><c r="B3"><v>nan</v></c></row>',
    "a day": '<row r="3"><c r="A3" t="d"><v>noon</v></c></row>',
    "an error": '<row r="3"><c r="A3" t="e"><v>#REF!</v></c><c r="B3" t="b"><v>7</v></c></row>',
}
