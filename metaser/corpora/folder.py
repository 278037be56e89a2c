"""A user's own clips: a tree ``speaker/emotion/*.wav`` (the speaker is optional), or a CSV file that lists them.

WAV, FLAC, AIFF, MP3, Ogg Vorbis and Opus, so far as libsndfile decodes them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from metaser.corpora.base import EMOTIONS, Corpus, Scan, Utterance
from metaser.corpora.files import sorted_out
from metaser.runtime.errors import UserError, plain
from metaser.runtime.files import readable_folder
from metaser.runtime.progress import say

SYNONYMS = {
    "afraid": "fear", "angry": "anger", "bored": "boredom", "disgusted": "disgust", "excited": "excitement",
    "fearful": "fear", "frustrated": "frustration", "happy": "happiness", "joy": "happiness", "joyful": "happiness",
    "pleasant_surprise": "surprise", "ps": "surprise", "sad": "sadness", "scared": "fear", "surprised": "surprise",
}  # fmt: skip
#: File extension → libsndfile's format, of what a user's own clips may be.
FORMATS = {
    ".wav": "WAV", ".flac": "FLAC", ".aif": "AIFF", ".aiff": "AIFF", ".mp3": "MP3", ".oga": "OGG", ".ogg": "OGG", ".opus": "OGG",
}  # fmt: skip
#: Files that are left out and named, before they are only counted.
NAMED = 3
GENDERS = {"f": "f", "female": "f", "m": "m", "male": "m", "": ""}
REQUIRED = ("path", "emotion")
OPTIONAL = ("speaker", "language", "gender", "text")


class Folder(Corpus):
    """Clips with the user's own emotion names: known names and synonyms become canonical, others stay, lower case.

    Args:
        name: Its name in tables and reports.
        path: The root of the tree, or a CSV file with the columns path (relative to the CSV's folder) and emotion, and
            if wanted speaker, language, gender (f or m) and text.
        language: ISO 639-1 code of its clips; the CSV's own column goes before it.
        emotions: The user's emotion names → the names to use, before the built-in synonyms.
    """

    licence = "the user's own"
    home = ""
    access = "lay the clips out as emotion/*.wav or speaker/emotion/*.wav, or list them in a CSV file"

    def __init__(self, name: str, path: str | Path, language: str, emotions: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.title = f"'{name}'"
        self.path = Path(path)
        self.languages = (language,)
        self.emotions = {theirs.strip().lower(): ours for theirs, ours in (emotions or {}).items()}

    def folder(self, root: Path | None) -> Path:
        """Its own path, wherever the data root is."""
        return self.path

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``speaker/emotion/clip.wav`` or ``emotion/clip.wav``; None at any other depth."""
        if not 2 <= len(relative.parts) <= 3:
            return None
        *speaker, emotion, _ = relative.parts
        if speaker and self.is_known(speaker[0]) and not self.is_known(emotion):  # emotion/speaker: the wrong way round
            return None
        return Utterance("".join(speaker), "", self.canonical(emotion), "", self.languages[0])

    def identity(self, relative: PurePosixPath) -> str:
        """The path without its extension: equal names in two folders say nothing in a user's own layout."""
        return os.path.normpath(relative.with_suffix(""))

    def is_known(self, emotion: str) -> bool:
        """Whether a name is an emotion's, in some spelling."""
        return self.canonical(emotion) in {*EMOTIONS, *self.emotions.values()}

    def canonical(self, emotion: str) -> str:
        """The name to use for the user's name of an emotion."""
        name = emotion.strip().lower()
        return self.emotions.get(name) or SYNONYMS.get(name, name)

    def scan(self, folder: Path) -> Scan:
        """As `Corpus.scan`; ``folder`` may be a CSV file.

        Raises:
            UserError: also naming the CSV's row and column that is wrong.
        """
        if os.path.isfile(folder):
            return self.build(folder.parent, sorted(self.rows(folder), key=lambda row: str(row[0])))
        files = clips_below(readable_folder(folder, f"corpus {self.name}"))
        return self.build(folder, ((relative, self.parse(relative)) for relative in files))

    def rows(self, file: Path) -> Iterator[tuple[PurePosixPath, Utterance]]:
        """The clips that a CSV file lists, in its order.

        Raises:
            UserError: naming the file and the row.
        """
        seen: dict[str, int] = {}
        for number, row in read_csv(file):
            where, path = f"{file}, row {number}", row["path"]
            for column in REQUIRED:
                if not row[column]:
                    raise UserError(f"{where}: no {column}; every row needs {' and '.join(REQUIRED)}")
            if not os.path.isfile(file.parent / path):
                raise UserError(f"{where}: no file {file.parent / path}; paths are relative to {file.parent}")
            clip = os.path.normpath(file.parent / path)  # however it is written
            if clip in seen:
                raise UserError(f"{where}: {path} is already in row {seen[clip]}; list every clip once")
            if row["gender"].lower() not in GENDERS:
                raise UserError(f"{where}: gender '{row['gender']}'; write f, m or nothing")
            seen[clip] = number
            gender, language = GENDERS[row["gender"].lower()], row["language"] or self.languages[0]
            emotion = self.canonical(row["emotion"])
            yield PurePosixPath(path), Utterance(row["speaker"], gender, emotion, row["text"], language)


def clips_below(folder: Path) -> list[PurePosixPath]:
    """The clips below a user's folder, as `metaser.corpora.files` finds them, in any format that libsndfile decodes.

    Every other file is counted, and the first ones named, on standard error.

    Raises:
        UserError: if a folder cannot be read.
    """
    formats = decodable()
    found, left_out = sorted_out(folder, formats)
    if left_out:
        named = ", ".join(plain(str(path)) for path in left_out[:NAMED])
        more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        say(f"{plain(str(folder))}: skipped {len(left_out)} that are hidden or not {', '.join(formats)}: {named}{more}")
    return found


@cache
def decodable() -> tuple[str, ...]:
    """The extensions of `FORMATS` that the installed libsndfile decodes."""
    import soundfile  # only here, for tables are read without it

    known = soundfile.available_formats()
    return tuple(extension for extension, name in FORMATS.items() if name in known)


def read_csv(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, each with the number of its (last) line; absent optional columns are empty.

    Raises:
        UserError: naming the file and what it lacks.
    """
    number = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            for column in REQUIRED:
                if column not in header:
                    found = f"its columns are {', '.join(header)[:200]}" if header else "it is empty"
                    raise UserError(f"{file}, row 1: no column '{column}' ({found}); name {' and '.join(REQUIRED)}")
            for column in (*REQUIRED, *OPTIONAL):
                if header.count(column) > 1:
                    raise UserError(f"{file}, row 1: column '{column}' is there twice; leave one")
            rows = 0
            for cells in reader:
                number = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UserError(f"{file}, row {number}: {len(cells)} fields where the header has {len(header)}")
                rows += 1
                yield number, dict.fromkeys(OPTIONAL, "") | dict(zip(header, map(str.strip, cells), strict=True))
            if not rows:
                raise UserError(f"{file}: no row below the header; list one clip a row")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{file}, row {number + 1}: {error}; save it as comma-separated CSV") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
