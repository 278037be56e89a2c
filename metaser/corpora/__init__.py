"""The corpora by name. A new corpus is one file and one line here; nothing is read or decoded on import."""

from __future__ import annotations

from pathlib import Path

from metaser.corpora.base import Corpus, Progress
from metaser.corpora.emodb import Emodb
from metaser.corpora.emofilm import EmoFilm
from metaser.corpora.emovo import Emovo
from metaser.corpora.iemocap import Iemocap
from metaser.corpora.ravdess import Ravdess
from metaser.corpora.savee import Savee
from metaser.corpora.shemo import Shemo
from metaser.corpora.silence import Silence
from metaser.corpora.synthetic import Synthetic
from metaser.corpora.tess import Tess
from metaser.corpora.urdu import Urdu
from metaser.runtime.errors import UserError, nearest

#: Every corpus with a name of its own, by that name.
CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (
    EmoFilm(), Emodb(), Ravdess(), Tess(), Savee(), Iemocap(), Emovo(), Shemo(), Urdu(), Synthetic(), Silence(),
)}  # fmt: skip


def find(name: str) -> Corpus:
    """The corpus of that name, in any case; or a user's own, as ``path/to/file.py:Class`` or ``module:Class``.

    Raises:
        UserError: if there is none, with the nearest name; or a user's own lacks what a corpus has.
    """
    if ":" in name:
        from metaser.corpora.own import own_corpus  # only here: a command that has none imports nothing for it

        return own_corpus(name, CORPORA)
    corpus = CORPORA.get(name.strip().lower())
    if corpus is None:
        raise UserError(f"unknown corpus '{name}'; {nearest(name, CORPORA)}")
    return corpus


def locate(name: str, root: Path | None, progress: Progress | None = None) -> tuple[Corpus, Path]:
    """The corpus of that name and its folder; a generated one is made first if need be.

    Raises:
        UserError: if there is no such corpus, or it is not below the data root.
    """
    corpus = find(name)
    folder = corpus.locate(root, progress)
    if folder is None:
        where = f"no folder '{corpus.name}' in {root}" if root else "METASER_DATA is not set"
        raise UserError(f"corpus {corpus.name}: {where}; to get it: {corpus.source}")
    return corpus, folder
