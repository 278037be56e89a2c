"""What ``metaser data list`` and ``metaser data verify`` print: plain lines, good on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metaser.corpora import CORPORA, locate
from metaser.corpora.base import Corpus
from metaser.corpora.verify import Holding, Report, counted, inventory, verify
from metaser.images import IMAGE_SETS, ImageSet
from metaser.runtime.errors import UserError, plain
from metaser.runtime.progress import progress


def listing(root: Path | None) -> str:
    """Every corpus: where it is and how much of it, or how to get it; with its licence and home page.

    Raises:
        UserError: if the data root cannot be read.
    """
    where = f"Data root: {root}" if root else "Data root: none; set METASER_DATA to a folder with one folder per corpus"
    images = (set_entry(entry, root) for entry in IMAGE_SETS.values())
    return "\n".join([where, *(entry(holding) for holding in inventory(root)), *images])


def set_entry(images: ImageSet, root: Path | None) -> str:
    """One set of images of the listing, in three lines."""
    folder = images.folder(root)
    state = f"there: {folder}" if folder else f"not there: put it in a folder '{images.name}' below the data root"
    return (f"\n{images.name:10} {images.title} (images)\n{'':10} {'built in' if images.bundled else state}\n"
            f"{'':10} {images.access}")  # fmt: skip


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


def listing_json(root: Path | None) -> str:
    """The same, but for images, as JSON: a list with an object per corpus.

    Raises:
        UserError: if the data root cannot be read.
    """
    return json.dumps([{
        "name": holding.corpus.name, "title": holding.corpus.title, "languages": holding.corpus.languages,
        "folder": str(holding.folder) if holding.folder else None, "clips": holding.clips, "problem": holding.problem,
        "release_clips": holding.corpus.expected.total if holding.corpus.expected else None, "generated": holding.corpus.generated,
        "licence": holding.corpus.licence, "source": holding.corpus.source,
    } for holding in inventory(root)], indent=1)  # fmt: skip


def verify_all(names: Sequence[str], root: Path | None, as_json: bool = False) -> bool:
    """Verifies and prints the named corpora, or all that are there; whether nothing is broken.

    Without names, a corpus that cannot be verified is broken, and the others are verified all the same.

    Raises:
        UserError: if there is no data root, no such corpus, or a named one is not there or cannot be verified.
    """
    sound, found = True, []
    for corpus, result in verified(names, root):
        sound = sound and isinstance(result, Report) and result.ok
        if as_json:
            found.append(as_facts(corpus, result))
        elif isinstance(result, Report):
            print(describe(result), flush=True)
        else:
            print(f"{corpus.name}: BROKEN: {result}", flush=True)
    if as_json:
        print(json.dumps(found, indent=1))
    return sound


def verified(names: Sequence[str], root: Path | None) -> Iterator[tuple[Corpus, Report | str]]:
    """One corpus of `verify_all` after another, with its report, or why there is none.

    Raises:
        UserError: as `verify_all`.
    """
    if root is None and not names:
        raise UserError("no data root: set METASER_DATA, or give --root, a folder with one folder per corpus")
    chosen = [locate(name, root) for name in dict.fromkeys(names)] if names else below(root)
    if not chosen:
        raise UserError(
            f"{root}: holds no corpus that metaser knows; its folders must be named as `metaser data list` does"
        )
    for corpus, folder in chosen:
        try:
            with progress(f"decoding {corpus.name}") as update:
                report = verify(corpus, folder, progress=update)
        except UserError as error:
            if names:
                raise
            yield corpus, str(error).removeprefix(f"corpus {corpus.name}: ")
        else:
            yield corpus, report


def as_facts(corpus: Corpus, result: Report | str) -> dict[str, Any]:
    """A report, or why there is none, as JSON takes it; per speaker and emotion the clips found and expected."""
    if isinstance(result, str):
        return {"corpus": corpus.name, "ok": False, "problem": result}
    findings = [
        {"level": one.level, "text": one.text, "paths": [str(path) for path in one.paths]} for one in result.findings
    ]
    counts = {what: {name: {"found": found, "expected": expected} for name, (found, expected) in per.items()}
              for what, per in result.counts.items()}  # fmt: skip
    return {"corpus": corpus.name, "ok": result.ok, "folder": str(result.folder), "clips": result.clips, "counts": counts,
            "findings": findings}  # fmt: skip


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
