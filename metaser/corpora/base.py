"""What a corpus is: a grammar of file names that turns a folder of clips into a table of utterances."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from metaser.corpora.files import files_below, folder_below
from metaser.runtime.errors import UserError, first_line, shown

if TYPE_CHECKING:  # and below where it is used: file names are read without it
    import pandas as pd

#: The canonical emotion names; every corpus maps its own codes to these.
EMOTIONS = (
    "anger", "boredom", "calm", "disgust", "excitement", "fear", "frustration", "happiness", "neutral", "other",
    "sadness", "surprise",
)  # fmt: skip

#: The columns of an utterance table, in this order.
COLUMNS = ("path", "corpus", "language", "speaker", "gender", "emotion", "text", "group")

#: Called with the clips done so far and the clips in all.
Progress = Callable[[int, int], None]

#: The domain of clips that belong to no language or corpus (silence, borrowed neutral) and serve all of them.
SHARED = "*"


@dataclass(frozen=True)
class Utterance:
    """What a file's name (or its corpus's own list) says of one clip.

    Attributes:
        speaker: The speaker's code, unique within the corpus; empty when unknown.
        gender: ``f``, ``m`` or empty when unknown.
        emotion: A name of `EMOTIONS`.
        text: What tells one sentence (or scene) from another within the corpus; empty when unknown.
        language: ISO 639-1 code, such as ``de``.
    """

    speaker: str
    gender: str
    emotion: str
    text: str
    language: str


@dataclass(frozen=True)
class Expected:
    """What the owners' full release holds, from its documentation.

    Attributes:
        emotions: Clips per canonical emotion.
        speakers: Clips per speaker code, or just the number of speakers where the counts are not published.
        rates: The sample rates in Hz that its files have (the owners' own, and others in common circulation).
    """

    emotions: Mapping[str, int]
    speakers: Mapping[str, int] | int
    rates: tuple[int, ...]

    @property
    def total(self) -> int:
        """Clips in the full release."""
        return sum(self.emotions.values())


@dataclass(frozen=True)
class Download:
    """A ZIP archive that anyone may fetch.

    Attributes:
        url: Where it is.
        file: Its name while it is kept.
        checksum: As pooch has it, such as ``md5:0123...``; empty where none is published.
        size: Its bytes, or None where they are not known.
        into: The folder to unpack it into, below the corpus's own; empty for that itself.
    """

    url: str
    file: str
    checksum: str = ""
    size: int | None = None
    into: str = ""


@dataclass(frozen=True)
class Scan:
    """What lies in a corpus's folder.

    Attributes:
        rows: The clips, with the values of `COLUMNS`; ``path`` is absolute; sorted by path.
        misnamed: Audio files whose names do not fit the corpus's grammar, absolute, sorted.
        twice: Clips that are there twice, such as in a nested second copy of the corpus: the first by path, and the
            other one; absolute, sorted by the other one.
    """

    rows: Sequence[tuple[str, ...]]
    misnamed: list[Path] = field(default_factory=list)
    twice: list[tuple[Path, Path]] = field(default_factory=list)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per clip, with the columns `COLUMNS`."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS))


class Corpus(ABC):
    """One corpus: its facts, and how to read its file names.

    Attributes:
        name: The registry's name and the name of its folder (any case) below the data root.
        title: Its full name.
        languages: ISO 639-1 codes.
        licence: In the owners' words, short.
        home: Where it is described.
        access: How a user gets it without a command, one sentence.
        grammar: What a clip's name is without its extension; with its folders, where there is a slash in it. Its named groups are
            `Utterance`'s fields: ``emotion``, and of the others those that the name tells.
        emotions: The group ``emotion`` → a name of `EMOTIONS`.
        genders: Speaker → ``f`` or ``m``, where `grammar` has no group ``gender``.
        downloads: The archives that it is made of, where it may be fetched freely.
        expected: The full release's counts, or None where there is none (`folder`).
        oddities: Stem of a file → what is odd with it in the owners' own release. `metaser data verify` names these
            files as known; anything else it finds is new.
        same_audio: Stems of clips with the same (or overlapping) audio: kept on one side of every split.
        generated: Whether metaser makes the clips itself: then it is always there, and it is no real speech.
        check_overlap: Whether `metaser data verify` looks for clips that share a stretch of audio (every pair: slow).
        own: What a user calls it whose own class it is (`metaser.corpora.own`).
    """

    name: str
    title: str
    languages: tuple[str, ...]
    licence: str
    home: str
    access: str
    grammar: re.Pattern[str] = re.compile("(?!)")  # no name fits
    emotions: Mapping[str, str] = {}
    genders: Mapping[str, str] = {}
    downloads: tuple[Download, ...] = ()
    expected: Expected | None = None
    oddities: Mapping[str, str] = {}
    same_audio: tuple[tuple[str, ...], ...] = ()
    generated: bool = False
    check_overlap: bool = False
    own: str = ""

    @property
    def argument(self) -> str:
        """What commands and settings call it."""
        return self.own or self.name

    @property
    def source(self) -> str:
        """How a user gets it: by a command where there is one."""
        by_hand = f"`metaser data fetch {self.argument}`, or by hand: " if self.downloads else ""
        return by_hand + self.access

    def named(self, relative: PurePosixPath) -> str:
        """What `grammar` has to fit."""
        return str(relative.parent / relative.stem) if "/" in self.grammar.pattern else relative.stem

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """What the file's path, relative to the corpus's folder, says; None when it does not fit the grammar."""
        match = self.grammar.fullmatch(self.named(relative))
        emotion = match and self.emotions.get(match["emotion"])
        if match is None or emotion is None:
            return None
        told = match.groupdict("")
        speaker = told.get("speaker", "")
        gender = told.get("gender") or self.genders.get(speaker, "")
        return Utterance(
            speaker, gender.lower(), emotion, told.get("text", ""), told.get("language") or self.languages[0]
        )

    def identity(self, relative: PurePosixPath) -> str:
        """Which recording a file that `parse` reads is: the same text for every copy of it, in any layout or format."""
        return self.named(relative)

    def folder(self, root: Path | None) -> Path | None:
        """The corpus's folder below the data root: its name in any case; None when there is none."""
        return folder_below(root, self.name) if root is not None else None

    def locate(self, root: Path | None, progress: Progress | None = None) -> Path | None:
        """Where the corpus is, or None: below the data root, or (a generated one) in the cache, made first if need be.

        Args:
            root: The data root, or None when the user has given none.
            progress: Called with (clips made, clips in all) while a generated corpus is made.
        """
        return self.folder(root)

    def utterances(self, folder: Path) -> Iterator[tuple[PurePosixPath, Utterance | None]]:
        """The audio files below ``folder``, relative to it and sorted, each with what is said of it; None: it is misnamed.

        Raises:
            UserError: if the folder cannot be read, or `parse` fails at a name.
        """
        for relative in files_below(folder):
            try:
                found = self.parse(relative)
            except Exception as error:  # of a user's own code
                raise UserError(f"{folder / relative}: parse of {self.argument} fails at this name "
                                f"({type(error).__name__}: {first_line(error)})") from error  # fmt: skip
            if not isinstance(found, Utterance | None):
                raise UserError(f"{folder / relative}: parse of {self.argument} gives {shown(found)}, no Utterance")
            yield relative, found

    def scan(self, folder: Path) -> Scan:
        """Reads the file names below ``folder``; decodes nothing.

        Raises:
            UserError: as `utterances`; if there is no audio file.
        """
        return self.build(folder, self.utterances(folder))

    def build(self, folder: Path, utterances: Iterable[tuple[PurePosixPath, Utterance | None]]) -> Scan:
        """The scan of ``folder`` from its `utterances`.

        Raises:
            UserError: if there is no file.
        """
        groups = {stem: stems[0] for stems in self.same_audio for stem in stems}
        rows, misnamed, twice = [], [], []
        first: dict[str, Path] = {}
        for relative, utterance in utterances:
            path = folder / relative
            if utterance is None:
                misnamed.append(path)
                continue
            identity = self.identity(relative)
            if first.setdefault(identity, path) != path:
                twice.append((first[identity], path))
            group = f"{self.name}/{groups.get(relative.stem, identity)}"
            rows.append((str(path), self.name, utterance.language, utterance.speaker, utterance.gender,
                         utterance.emotion, utterance.text, group))  # fmt: skip
        if not rows and not misnamed:
            raise self.without_clips(folder)
        return Scan(rows, misnamed, twice)

    def without_clips(self, folder: Path) -> UserError:
        """The error to raise where ``folder`` holds no clip of this corpus."""
        reason = f"no clip in {folder} is named as {self.title} names its clips"
        return UserError(f"corpus {self.name}: {reason}; {self.source}")

    def table(self, folder: Path) -> pd.DataFrame:
        """The table of `scan`, where every audio file is one of the corpus, and there once.

        Raises:
            UserError: as `scan`; if no clip is named as the corpus names them; and naming the first file that is
                misnamed (what it says cannot be known) or there twice (one copy would test what the other trained).
        """
        scan = self.scan(folder)
        if not scan.rows:
            raise self.without_clips(folder)
        others = len(scan.misnamed or scan.twice) - 1
        more = f" (and {others} more: `metaser data verify {self.argument}`)" if others > 0 else ""
        if scan.misnamed:
            raise UserError(f"{scan.misnamed[0]}: is not named as {self.title} names its clips, such as "
                            f"{Path(scan.rows[0][0]).relative_to(folder)}; rename or remove it{more}")  # fmt: skip
        if scan.twice:
            one, two = scan.twice[0]
            raise UserError(f"{one} and {two}: the same clip is there twice; remove one{more}")
        return scan.table


def concatenate(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Utterance tables, one below the other, with a fresh index."""
    import pandas as pd

    return pd.concat(list(tables), ignore_index=True)[list(COLUMNS)]
