"""A corpus that a user describes by a class in a file of their own, checked before anything is read by it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache

from metaser.corpora.base import Corpus
from metaser.runtime.errors import UserError, first_line, nearest, shown
from metaser.runtime.own import own_class

#: What a corpus must say of itself, and by which type.
FACTS = {"name": str, "title": str, "languages": tuple, "licence": str, "home": str, "access": str}

#: What its name may be: the name of a folder, as it is looked for.
NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


def own_corpus(name: str, taken: Collection[str]) -> Corpus:
    """The corpus of a user's own class, made once.

    Args:
        name: ``path/to/file.py:Class`` or ``module:Class``.
        taken: The names of metaser's own corpora.

    Raises:
        UserError: naming the class and what is wrong with it.
    """
    corpus = made(name)
    if corpus.name in taken:
        raise UserError(f"{name}: its name {corpus.name!r} is that of a corpus that metaser knows; choose another")
    return corpus


@cache
def made(name: str) -> Corpus:
    """An instance of the class, which is called as the user calls it.

    Raises:
        UserError: as `own_corpus`.
    """
    kind: type[Corpus] = own_class(name, Corpus)
    if wrong := flaw(kind):
        raise UserError(f"{name}: {wrong}")
    try:
        corpus: Corpus = kind()
    except Exception as error:
        raise UserError(f"{name}: cannot be made ({type(error).__name__}: {first_line(error)})") from error
    corpus.own = name
    return corpus


def flaw(kind: type[Corpus]) -> str:
    """What a class lacks to be a corpus; empty if nothing."""
    for key, type_ in FACTS.items():
        value = getattr(kind, key, None)
        if not isinstance(value, type_) or not value:
            what = "a tuple of codes, such as ('de',)" if type_ is tuple else "a text"
            return f"{key} must be {what}" + (f", not {shown(value)}" if hasattr(kind, key) else "; it is missing")
    if not NAME.fullmatch(kind.name):
        return f"its name {shown(kind.name)} cannot be a folder's; use small letters, digits, - and _"
    if kind.parse is not Corpus.parse:
        return ""
    if kind.grammar is Corpus.grammar or not isinstance(kind.grammar, re.Pattern):
        return 'it has no grammar; give one, such as re.compile(r"(?P<speaker>..)-(?P<emotion>...)"), or parse'
    groups = kind.grammar.groupindex
    known = ("emotion", "speaker", "gender", "text", "language")
    if odd := [group for group in groups if group not in known]:
        return f"its grammar has a group {odd[0]!r}; {nearest(odd[0], known)}"
    if "emotion" not in groups:
        return "its grammar has no group (?P<emotion>...)"
    if not isinstance(kind.emotions, Mapping) or not kind.emotions:
        return "emotions must map its codes to names, such as {'W': 'anger'}"
    return ""
