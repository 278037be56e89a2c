"""Which speech a run uses: the first collection of corpora that is there, as one table with a domain per clip."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from metaser import config
from metaser.corpora import CORPORA, find
from metaser.corpora.base import SHARED, Corpus, Progress, concatenate
from metaser.corpora.folder import Folder
from metaser.runtime.errors import UserError
from metaser.runtime.progress import say

#: The class that a collection may borrow from another corpus.
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Selection:
    """The clips of a run.

    Attributes:
        collection: The collection's name in the configuration.
        kind: ``real`` or ``synthetic``.
        table: Columns of `metaser.corpora.base.COLUMNS` and ``domain``; only the classes that the run uses.
        domains: The languages or corpora that tasks stay within, sorted.
        titles: Domain → how a table names it, such as "German (EMODB)".
        absent: Corpora of the collection that are not there.
        unit: What its rows are.
    """

    collection: str
    kind: str
    table: pd.DataFrame
    domains: tuple[str, ...]
    titles: dict[str, str]
    absent: tuple[str, ...] = field(default=())
    unit: str = "clips"

    @property
    def own_labels(self) -> str:
        """SHA-256 of what is said of the clips of a user's own corpora, which another file may say tomorrow; empty without any."""
        own = self.table[~self.table["corpus"].isin(CORPORA)] if self.unit == "clips" else self.table[:0]
        return hashlib.sha256(own.drop(columns="path").to_csv().encode()).hexdigest() if len(own) else ""


LANGUAGES = {"de": "German", "en": "English", "es": "Spanish", "fa": "Persian", "it": "Italian", "ur": "Urdu"}


def choose(
    settings: config.Data, root: Path | None, progress: Progress | None = None
) -> tuple[str, dict[Corpus, Path], tuple[str, ...]]:
    """The collection to use, its corpora with their folders, and the names of those that are missing.

    Raises:
        UserError: if the named collection is not there, or a data root is given and holds none of them.
    """
    wanted = settings.collections if settings.use == "auto" else {settings.use: settings.collections[settings.use]}
    reasons = []
    for name, collection in wanted.items():
        corpora = [corpus_of(entry) for entry in collection.corpora]
        names = [corpus.name for corpus in corpora]
        if twice := [called for called in names if names.count(called) > 1]:
            raise UserError(
                f"data.collections.{name}.corpora: two are called {twice[0]!r}; give each a name of its own"
            )
        if settings.use == "auto" and root is not None and all(corpus.generated for corpus in corpora):
            continue  # a user who names a data root wants what is in it
        found = {corpus: folder for corpus in corpora if (folder := corpus.locate(root, progress)) is not None}
        missing = [corpus for corpus in corpora if corpus not in found]
        if len(found) >= (collection.at_least or len(corpora)):
            return name, found, tuple(corpus.name for corpus in missing)
        reasons.append(f"{name} lacks {', '.join(corpus.name for corpus in missing)}")
    where = f"METASER_DATA={root}" if root else "METASER_DATA is not set"
    raise UserError(f"{where}: {'; '.join(reasons)} (`metaser data list` says where to get them)")


def corpus_of(entry: str | config.CustomCorpus) -> Corpus:
    """A corpus by its name (`metaser.corpora.find`), or the user's own clips.

    Raises:
        UserError: if no corpus has that name.
    """
    return find(entry) if isinstance(entry, str) else Folder(entry.name, Path(entry.path), entry.language)


def select(
    settings: config.Data, tasks: config.Tasks, root: Path | None, progress: Progress | None = None, fewest: int = 2
) -> Selection:
    """The table of clips that the settings ask for.

    Args:
        settings: Collections and emotions.
        tasks: Domain and fixed classes.
        root: The data root, or None.
        progress: Called with (clips made, clips to make) while a generated corpus is made.
        fewest: Domains that must be there.

    Raises:
        UserError: if a corpus is missing or unreadable, if there are too few domains, or a fixed class has no clips
            anywhere.
    """
    name, folders, absent = choose(settings, root, progress)
    synthetic = all(corpus.generated for corpus in folders)
    if not synthetic and any(corpus.generated for corpus in folders):
        raise UserError(f"collection {name}: real and generated corpora are never mixed; name them in two collections")
    table = concatenate(corpus.table(folder) for corpus, folder in folders.items())
    table = table.assign(emotion=table["emotion"].replace(dict(settings.merge)))
    left_out = set() if settings.collections[name].own_neutral else {NEUTRAL}
    table = table[table["emotion"].isin({*settings.emotions, *tasks.fixed} - left_out)]
    table = table.assign(domain=table["language"] if synthetic or tasks.domain == "language" else table["corpus"])
    domains = tuple(sorted(table["domain"].unique()))
    if not domains:
        raise UserError(
            f"collection {name}: no clip is of {', '.join(settings.emotions or tasks.fixed) or 'any class'}"
        )
    if len(domains) < fewest:
        raise UserError(
            f"collection {name}: only {domains[0]} is there; leaving one {tasks.domain} out needs two at least"
        )
    present = {corpus.name for corpus in folders}
    lacking = [label for label in tasks.fixed if not has_class(table, label)]
    shared = [shared_class(label, settings.collections[name], present, root, progress) for label in lacking]
    for label, clips in zip(lacking, shared, strict=True):
        if clips.empty:
            raise UserError(unlent(label, name, settings.collections[name], table, tasks.fixed))
    table = pd.concat([table, *(clips.assign(domain=SHARED) for clips in shared)], ignore_index=True)
    return Selection(name, "synthetic" if synthetic else "real", table, domains, titles(table, domains), absent)


def has_class(table: pd.DataFrame, label: str) -> bool:
    """Whether every domain has clips of its own of a class."""
    having = table.loc[table["emotion"] == label, "domain"].nunique()
    return having == table["domain"].nunique()


def shared_class(
    label: str, collection: config.Collection, present: set[str], root: Path | None, progress: Progress | None
) -> pd.DataFrame:
    """Clips of a fixed class that not all of the collection's corpora have: generated silence, or borrowed neutral; empty if none.

    A corpus of the collection itself lends nothing: its clips would train one language and test another.
    """
    lenders: Sequence[str] = ("silence",) if label == "silence" else collection.neutral
    for lender in (find(name) for name in lenders if name not in present):
        folder = lender.locate(root, progress)
        if folder is not None:
            table = lender.table(folder)
            if (table["emotion"] == label).any():
                return table[table["emotion"] == label]
    return pd.DataFrame()


def unlent(label: str, name: str, collection: config.Collection, table: pd.DataFrame, fixed: Sequence[str]) -> str:
    """Why a fixed class has no clips, and what to set.

    Args:
        label: The class.
        name: The collection's name.
        collection: The collection.
        table: Its clips.
        fixed: All fixed classes.
    """
    without = sorted(set(table["domain"]) - set(table.loc[table["emotion"] == label, "domain"]))
    rest = f"tasks.fixed=[{', '.join(other for other in fixed if other != label)}]"
    key = f"data.collections.{name}.neutral"
    lenders = (f"and no corpus that {key} names ({', '.join(collection.neutral)}) is there to lend some" if collection.neutral
               else f"and {key} names no corpus outside the collection to lend some")  # fmt: skip
    return f"fixed class {label}: {', '.join(without)} has no clip of it, {lenders}; name one there, or set {rest}"


def titles(table: pd.DataFrame, domains: Sequence[str]) -> dict[str, str]:
    """Domain → its language's name with the corpora that stand for it."""
    return {domain: title([domain], table[table["domain"] == domain]) for domain in domains}


def title(codes: Iterable[str], table: pd.DataFrame) -> str:
    """Languages by name, with the corpora of a table: "German (EMODB)"."""
    languages, corpora = (LANGUAGES.get(code, code) for code in codes), sorted(set(table["corpus"].str.upper()))
    return f"{' and '.join(languages)} ({', '.join(corpora)})"


def announce(selection: Selection, root: Path | None) -> None:
    """Says on standard error which speech is used, and in capitals when it is synthetic."""
    if selection.kind == "bundled":
        say(f"using {selection.collection}, which need no fetching and are not the paper's")
        return
    if selection.kind == "synthetic":
        why = "" if root else ", since METASER_DATA is not set"
        say(f"using the built-in SYNTHETIC corpus{why}; the numbers say nothing about speech")
        return
    parts = {domain: selection.table[selection.table["domain"] == domain] for domain in selection.titles}
    named = {domain: title(sorted(set(part["language"])), part) if selection.unit == "clips" else selection.titles[domain]
             for domain, part in parts.items()}  # fmt: skip
    found = ", ".join(f"{named[domain]}: {len(part)} {selection.unit}" for domain, part in parts.items())
    what = "real speech, collection" if selection.unit == "clips" else selection.unit
    say(f"{what} {selection.collection}: {found}")
    if selection.absent:
        free = [name for name in selection.absent if name in CORPORA and CORPORA[name].downloads]
        how = [f"`metaser data fetch {' '.join(free)}` gets {'them' if len(free) > 1 else 'it'}"] if free else []
        if len(free) < len(selection.absent):
            how.append(f"`metaser data list` says where to get {'the others' if free else 'them'}")
        say(f"not there and left out: {', '.join(selection.absent)} ({'; '.join(how)})")
