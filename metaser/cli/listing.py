"""What ``metaser data list`` and ``metaser data verify`` print: plain lines, good on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaser.corpora import CORPORA, find, locate
from metaser.corpora.verify import Holding, Report, counted, inventory, verify
from metaser.images import IMAGE_SETS
from metaser.runtime.errors import UserError, plain
from metaser.runtime.progress import progress

NOT_THERE = "not there: put it in a folder '{}' below the data root"


def listing(root: Path | None, names: Sequence[str] = ()) -> str:
    """Every corpus, or those that are named: where it is and how much of it, or how to get it; its licence and home page.

    Raises:
        UserError: if the data root cannot be read, or there is no such corpus.
    """
    lines = [f"Data root: {root or 'none; set METASER_DATA to a folder with one folder per corpus'}"]
    for holding in inventory(root, [find(name) for name in names] or None):
        corpus = holding.corpus
        languages = ", ".join(corpus.languages) or "no language"
        lines += ["", f"{corpus.name:10} {corpus.title} ({languages})", f"{'':10} {state(holding)}",
                  f"{'':10} {corpus.licence}; {corpus.home}", f"{'':10} {corpus.source}"]  # fmt: skip
    for images in () if names else IMAGE_SETS.values():
        folder = images.folder(root)
        where = "built in" if images.bundled else f"there: {folder}" if folder else NOT_THERE.format(images.name)
        lines += ["", f"{images.name:10} {images.title} (images)", f"{'':10} {where}", f"{'':10} {images.access}"]
    return "\n".join(lines)


def state(holding: Holding) -> str:
    """Whether a corpus is there, and how much of it."""
    corpus = holding.corpus
    if corpus.generated:
        return "built in, made when needed"
    if holding.problem:
        return f"PROBLEM: {holding.problem}"
    if holding.folder is None:
        return NOT_THERE.format(corpus.name)
    total = f" of {corpus.expected.total}" if corpus.expected else ""
    return f"there: {holding.clips}{total} clips in {holding.folder}"


def listing_json(root: Path | None, names: Sequence[str] = ()) -> str:
    """The same, but for images, as JSON: a list with an object per corpus.

    Raises:
        UserError: as `listing`.
    """
    return json.dumps([{
        "name": corpus.name, "title": corpus.title, "languages": corpus.languages,
        "folder": str(holding.folder) if holding.folder else None, "clips": holding.clips, "problem": holding.problem,
        "release_clips": corpus.expected.total if corpus.expected else None, "generated": corpus.generated,
        "licence": corpus.licence, "source": corpus.source,
    } for holding in inventory(root, [find(name) for name in names] or None) for corpus in [holding.corpus]], indent=1)  # fmt: skip


def verify_all(names: Sequence[str], root: Path | None, as_json: bool = False) -> bool:
    """Verifies and prints the named corpora, or all that are there; whether nothing is broken.

    Without names, a corpus that cannot be verified is broken, and the others are verified all the same.

    Raises:
        UserError: if there is no data root, no such corpus, or a named one is not there or cannot be verified.
    """
    if root is None and not names:
        raise UserError("no data root: set METASER_DATA, or give --root, a folder with one folder per corpus")
    chosen = [locate(name, root) for name in dict.fromkeys(names)] or [
        (corpus, folder) for corpus in CORPORA.values() if not corpus.generated and (folder := corpus.folder(root))]  # fmt: skip
    if not chosen:
        raise UserError(f"{root}: holds no corpus that metaser knows; name its folders as `metaser data list` does")
    sound, facts = True, []
    for corpus, folder in chosen:
        try:
            with progress(f"decoding {corpus.name}") as update:
                report = verify(corpus, folder, progress=update)
        except UserError as error:
            if names:
                raise
            problem = str(error).removeprefix(f"corpus {corpus.name}: ")
            told, fact = f"{corpus.name}: BROKEN: {problem}", {"corpus": corpus.name, "ok": False, "problem": problem}
        else:
            told, fact = describe(report), as_facts(report)
        sound = sound and bool(fact["ok"])
        facts.append(fact)
        if not as_json:
            print(told, flush=True)
    if as_json:
        print(json.dumps(facts, indent=1))
    return sound


def as_facts(report: Report) -> dict[str, Any]:
    """A report as JSON takes it; per speaker and emotion the clips found and expected."""
    findings = [
        {"level": one.level, "text": one.text, "paths": [str(path) for path in one.paths]} for one in report.findings
    ]
    counts = {what: {name: {"found": found, "expected": expected} for name, (found, expected) in per.items()}
              for what, per in report.counts.items()}  # fmt: skip
    return {"corpus": report.corpus, "ok": report.ok, "folder": str(report.folder), "clips": report.clips, "counts": counts,
            "findings": findings}  # fmt: skip


def describe(report: Report) -> str:
    """A report as text: the verdict, the counts, then a line per finding."""
    verdict = "nothing broken" if report.ok else "BROKEN, see below"
    lines = [f"{report.corpus}: {report.clips} clips in {report.folder}: {verdict}"]
    lines += [f"  clips per {what}: {counted(counts)}" for what, counts in report.counts.items()]
    lines += [f"  {finding}" for finding in report.findings]
    return "\n".join(map(plain, lines))
