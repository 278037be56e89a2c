"""What ``metaser data list`` and ``metaser data verify`` print: plain lines, good on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaser.corpora import CORPORA, locate
from metaser.corpora.base import Corpus
from metaser.corpora.verify import Count, Holding, Report, inventory, verify
from metaser.errors import UserError, plain
from metaser.pictures import PICTURES, PictureSet
from metaser.progress import progress


def listing(root: Path | None) -> str:
    """Every corpus: where it is and how much of it, or how to get it; with its licence and home page.

    Raises:
        UserError: if the data root cannot be read.
    """
    where = f"Data root: {root}" if root else "Data root: none; set METASER_DATA to a folder with one folder per corpus"
    pictures = (pictured(entry, root) for entry in PICTURES.values())
    return "\n".join([where, *(entry(holding) for holding in inventory(root)), *pictures])


def pictured(pictures: PictureSet, root: Path | None) -> str:
    """One set of pictures of the listing, in three lines."""
    folder = pictures.folder(root)
    state = f"there: {folder}" if folder else f"not there: put it in a folder '{pictures.name}' below the data root"
    return (f"\n{pictures.name:10} {pictures.title} (pictures)\n{'':10} {'built in' if pictures.bundled else state}\n"
            f"{'':10} {pictures.access}")  # fmt: skip


def entry(holding: Holding) -> str:
    """One corpus of the listing, in three lines."""
    corpus = holding.corpus
    if corpus.generated:
        state = "built in, made when needed"
    elif holding.problem:
        state = f"PROBLEM: {holding.problem}"
    elif holding.folder is None:
        state = f"not there: put it in a folder '{corpus.name}' below the data root"
    else:
        total = f" of {corpus.expected.total}" if corpus.expected else ""
        state = f"there: {holding.clips}{total} clips in {holding.folder}"
    languages = ", ".join(corpus.languages) or "no language"
    return (f"\n{corpus.name:10} {corpus.title} ({languages})\n{'':10} {state}\n"
            f"{'':10} {corpus.licence}; {corpus.home}\n{'':10} {corpus.source}")  # fmt: skip


def verify_all(names: Sequence[str], root: Path | None) -> bool:
    """Verifies and prints the named corpora, or all that are there; whether nothing is broken.

    Without names, a corpus that cannot be verified is broken, and the others are verified all the same.

    Raises:
        UserError: if there is no data root, no such corpus, or a named one is not there or cannot be verified.
    """
    if root is None and not names:
        raise UserError("no data root: set METASER_DATA, or give --root, a folder with one folder per corpus")
    chosen = [locate(name, root) for name in dict.fromkeys(names)] if names else below(root)
    if not chosen:
        raise UserError(
            f"{root}: holds no corpus that metaser knows; its folders must be named as `metaser data list` does"
        )
    sound = True
    for corpus, folder in chosen:
        try:
            with progress(f"decoding {corpus.name}") as update:
                report = verify(corpus, folder, progress=update)
        except UserError as error:
            if names:
                raise
            print(f"{corpus.name}: BROKEN: {str(error).removeprefix(f'corpus {corpus.name}: ')}", flush=True)
            sound = False
            continue
        print(describe(report), flush=True)
        sound = sound and report.ok
    return sound


def below(root: Path | None) -> list[tuple[Corpus, Path]]:
    """The corpora that have a folder below the data root, with it; generated ones are elsewhere, and always whole."""
    if root is None:
        return []
    return [(corpus, folder) for corpus in CORPORA.values() if not corpus.generated and (folder := corpus.folder(root))]


def describe(report: Report) -> str:
    """A report as text: the verdict, the counts, then a line per finding."""
    verdict = "nothing broken" if report.ok else "BROKEN, see below"
    lines = [f"{report.corpus}: {report.clips} clips in {report.folder}: {verdict}"]
    lines += [f"  clips per {what}: {counted(counts)}" for what, counts in report.counts.items()]
    lines += [f"  {finding}" for finding in report.findings]
    return "\n".join(map(plain, lines))


def counted(counts: Mapping[str, Count]) -> str:
    """``anger 127, boredom 80/81``: found, or found/expected where they differ."""
    return ", ".join(
        f"{name} {found}" if expected is None or found == expected else f"{name} {found}/{expected}"
        for name, (found, expected) in counts.items()
    )
