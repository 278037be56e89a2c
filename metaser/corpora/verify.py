"""What is on the disk against what the owners released: every clip decoded, counted and compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaser.corpora import CORPORA
from metaser.corpora.audio import decoded
from metaser.corpora.base import Corpus, Expected, Progress
from metaser.corpora.overlap import overlaps
from metaser.runtime.errors import UserError

BROKEN, KNOWN, NOTE = "broken", "known", "note"


@dataclass(frozen=True)
class Finding:
    """Something to tell of a corpus's folder.

    Attributes:
        level: ``broken`` (mend it), ``known`` (so in the owners' release) or ``note``.
        text: One line; files are named relative to the corpus's folder.
        paths: The files it is about.
    """

    level: str
    text: str
    paths: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


#: Clips found, and clips in the full release (None when not known).
Count = tuple[int, int | None]


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        corpus: Its name.
        folder: Where it lies.
        clips: How many clips are named as the corpus names them.
        findings: Broken ones first, then known ones, then notes.
        counts: ``"emotion"`` and ``"speaker"`` → name → `Count`.
    """

    corpus: str
    folder: Path
    clips: int
    findings: list[Finding]
    counts: Mapping[str, Mapping[str, Count]]

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return all(finding.level != BROKEN for finding in self.findings)


@dataclass(frozen=True)
class Clip:
    """One decoded clip; ``error`` says why it could not be used, and is empty otherwise."""

    path: Path
    error: str = ""
    rate: int = 0
    digest: bytes = b""


@dataclass(frozen=True)
class Holding:
    """A corpus of the registry, and what the data root holds of it.

    Attributes:
        corpus: The corpus.
        folder: Its folder, or None when there is none.
        clips: Clips named as the corpus names them.
        problem: Why its folder cannot be used; empty when it can.
    """

    corpus: Corpus
    folder: Path | None
    clips: int = 0
    problem: str = ""


def inventory(root: Path | None, corpora: Iterable[Corpus] | None = None) -> list[Holding]:
    """What ``root`` holds of each corpus (by default all of the registry), by file names alone; None holds nothing.

    Raises:
        UserError: if ``root`` itself cannot be read.
    """
    holdings = []
    for corpus in CORPORA.values() if corpora is None else corpora:
        folder, clips, problem = corpus.folder(root), 0, ""
        if folder is not None:
            try:
                clips = len(corpus.scan(folder).rows)
                if not clips:
                    raise corpus.without_clips(folder)
            except UserError as error:
                problem = str(error)
        holdings.append(Holding(corpus, folder, clips, problem))
    return holdings


def verify(corpus: Corpus, folder: Path, workers: int | None = None, progress: Progress | None = None) -> Report:
    """Decodes every clip of ``folder`` and compares what is there with the owners' release.

    Args:
        corpus: Whose clips they are.
        folder: Where they lie.
        workers: Threads that decode; by default as `concurrent.futures` has it.
        progress: Called with the clips decoded so far and the clips in all.

    Raises:
        UserError: if the folder cannot be read or holds no audio file.
    """
    scan = corpus.scan(folder)
    paths, clips = [Path(path) for path in scan.table["path"]], []
    with ThreadPoolExecutor(workers) as pool:
        for clip in pool.map(decode, paths):
            clips.append(clip)
            if progress is not None:
                progress(len(clips), len(paths))
    sound = [clip for clip in clips if not clip.error]
    release = corpus.expected
    counts = {
        "emotion": compare(scan.table["emotion"], release.emotions if release else None),
        "speaker": compare(scan.table["speaker"], release.speakers if release else None),
    }

    def finding(text: str, *paths: Path, known: bool | None = None) -> Finding:
        names = " = ".join(str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths)
        known = is_known(corpus, paths) if known is None else known
        return Finding(KNOWN if known else BROKEN, f"{names}: {text}", paths)

    findings = [finding(clip.error, clip.path, known=False) for clip in clips if clip.error]
    findings += [finding(f"not named as {corpus.title} names its clips", path) for path in scan.misnamed]
    findings += [finding("the same clip is there twice; remove one", *pair, known=False) for pair in scan.twice]
    usual = Counter(clip.rate for clip in sound).most_common(1)[0][0] if sound else 0
    right = release.rates if release and usual in release.rates else (usual,)  # a release may mix several
    findings += [finding(f"{clip.rate} Hz, where most clips have {usual} Hz", clip.path,
                         known=f" {clip.rate} Hz" in corpus.oddities.get(clip.path.stem, ""))  # not if it is odd otherwise
                 for clip in sound if clip.rate not in right]  # fmt: skip
    equal: dict[bytes, list[Path]] = {}
    for clip in sound:
        equal.setdefault(clip.digest, []).append(clip.path)
    findings += [finding("the same audio, sample for sample", *group) for group in equal.values()
                 if len(group) > 1 and set(group) not in map(set, scan.twice)]  # fmt: skip
    if corpus.check_overlap:
        pairs = overlaps([clip.path for clip in sound], [clip.rate for clip in sound])
        findings += [finding(f"{seconds:.2f} s of audio in common", *pair) for pair, seconds in pairs]
    named = {path for found in findings for path in found.paths}
    findings += [finding(corpus.oddities[clip.path.stem], clip.path, known=True) for clip in sound
                 if clip.path not in named and clip.path.stem in corpus.oddities]  # fmt: skip
    findings += completeness(release, len(clips), counts) if release else ()
    if release and usual and usual not in release.rates:
        released = " or ".join(map(str, release.rates))
        findings.append(Finding(NOTE, f"most clips have {usual} Hz, the release has {released} Hz: resampled copies"))
    findings.sort(key=lambda found: (BROKEN, KNOWN, NOTE).index(found.level))
    return Report(corpus.name, folder, len(clips), findings, counts)


def decode(path: Path) -> Clip:
    """Reads one clip, block by block: a long one takes no more memory than a short one."""
    digest, low, high = hashlib.sha256(), np.inf, -np.inf
    try:
        with decoded(path) as (rate, blocks):
            for block in blocks:
                digest.update(block.data)
                low, high = min(low, block.min()), max(high, block.max())
    except UserError as error:
        return Clip(path, str(error).removeprefix(f"{path}: "))
    if low == high:
        return Clip(path, "holds only silence; remove it or fetch it anew")
    return Clip(path, "", rate, digest.digest())


def is_known(corpus: Corpus, paths: tuple[Path, ...]) -> bool:
    """Whether the corpus lists this file as odd, or these files as having audio in common, in the owners' release."""
    stems = [path.stem for path in paths]
    if len(stems) == 1:
        return stems[0] in corpus.oddities
    return len(set(stems)) == len(stems) and any(set(stems) <= set(group) for group in corpus.same_audio)


def compare(found: Iterable[str], expected: Mapping[str, int] | int | None) -> dict[str, Count]:
    """Clips by name, found and expected, sorted by name; clips without a name (unknown speakers) are left out."""
    counts = Counter(name for name in found if name)
    known = expected if isinstance(expected, Mapping) else {}
    return {name: (counts[name], known.get(name)) for name in sorted({*counts, *known})}


def completeness(release: Expected, clips: int, counts: Mapping[str, Mapping[str, Count]]) -> Iterator[Finding]:
    """More clips than the release has (broken); fewer clips, emotions or speakers (notes)."""
    for kind, named in counts.items():
        known = {name: (found, expected) for name, (found, expected) in named.items() if expected is not None}
        for name, (found, expected) in known.items():
            if found > expected:
                yield Finding(BROKEN, f"{kind} {name}: {found} clips, more than the release has ({expected})")
        fewer = [f"{name} {found}/{expected}" for name, (found, expected) in known.items() if 0 < found < expected]
        if fewer:
            yield Finding(NOTE, f"fewer clips than the release, {kind} by {kind}: {', '.join(fewer)}")
        absent = [name for name, (found, _) in known.items() if not found]
        if absent:
            yield Finding(NOTE, f"no clip at all of {kind} {', '.join(absent)}")
    if clips < release.total:
        yield Finding(NOTE, f"a subset: {clips} of the release's {release.total} clips")
    speakers = release.speakers
    if isinstance(speakers, int) and counts["speaker"] and len(counts["speaker"]) != speakers:
        yield Finding(NOTE, f"{len(counts['speaker'])} speakers, the release has {speakers}")


def counted(counts: Mapping[str, Count]) -> str:
    """``anger 127, boredom 80/81``: found, or found/expected where they differ."""
    return ", ".join(
        f"{name} {found}" if expected is None or found == expected else f"{name} {found}/{expected}"
        for name, (found, expected) in counts.items()
    )
