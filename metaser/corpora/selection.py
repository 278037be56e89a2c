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
            raise UserError(f"data.collections.{name}.corpora: two are called {twice[0]!r}; rename one")
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
    collection = settings.collections[name]
    left_out = set() if collection.own_neutral else {NEUTRAL}
    table = table[table["emotion"].isin({*settings.emotions, *tasks.fixed} - left_out)]
    table = table.assign(domain=table["language"] if synthetic or tasks.domain == "language" else table["corpus"])
    domains = tuple(sorted(table["domain"].unique()))
    if not domains:
        wanted = ", ".join(settings.emotions or tasks.fixed) or "any class"
        raise UserError(f"collection {name}: no clip is of {wanted}")
    if len(domains) < fewest:
        raise UserError(
            f"collection {name}: only {domains[0]} is there; leaving one {tasks.domain} out needs two at least"
        )
    shared = []
    for label in tasks.fixed:
        having = set(table.loc[table["emotion"] == label, "domain"])
        if lacking := [domain for domain in domains if domain not in having]:
            names = ("silence",) if label == "silence" else collection.neutral
            lenders = [
                lender for lender in map(find, names) if lender not in folders
            ]  # its clips would train what they test
            shared.append(lent(label, lenders, root, progress))
            if shared[-1].empty:
                why = unlent(label, f"data.collections.{name}.neutral", collection.neutral, tasks.fixed)
                raise UserError(f"fixed class {label}: {', '.join(lacking)} has no clip of it, {why}")
    table = pd.concat([table, *(clips.assign(domain=SHARED) for clips in shared)], ignore_index=True)
    titles = {domain: title([domain], table[table["domain"] == domain]) for domain in domains}
    return Selection(name, "synthetic" if synthetic else "real", table, domains, titles, absent)


def lent(label: str, lenders: Sequence[Corpus], root: Path | None, progress: Progress | None) -> pd.DataFrame:
    """A class's clips of the first corpus that is there and has some; empty if none has."""
    for lender in lenders:
        if (folder := lender.locate(root, progress)) is not None:
            table = lender.table(folder)
            if (table["emotion"] == label).any():
                return table[table["emotion"] == label]
    return pd.DataFrame()


def unlent(label: str, key: str, lenders: Sequence[str], fixed: Sequence[str]) -> str:
    """Why no corpus lends a fixed class's clips, and what to set."""
    why = (f"no corpus that {key} names ({', '.join(lenders)}) is there to lend some" if lenders
           else f"{key} names no corpus outside the collection to lend some")  # fmt: skip
    rest = ", ".join(other for other in fixed if other != label)
    return f"and {why}; name one there, or set tasks.fixed=[{rest}]"


def title(codes: Iterable[str], table: pd.DataFrame) -> str:
    """Languages by name, with the corpora of a table: "German (EMODB)"."""
    languages, corpora = (LANGUAGES.get(code, code) for code in codes), sorted(set(table["corpus"].str.upper()))
    return f"{' and '.join(languages)} ({', '.join(corpora)})"


def announce(selection: Selection, root: Path | None) -> None:
    """Says on standard error which speech is used, and in capitals when it is synthetic."""
    if selection.kind == "bundled":
        say(f"using {selection.collection}, which need no fetching and are not the paper's")
    elif selection.kind == "synthetic":
        why = "" if root else ", since METASER_DATA is not set"
        say(f"using the built-in SYNTHETIC corpus{why}; the numbers say nothing about speech")
    else:
        found = []
        for domain, called in selection.titles.items():
            part = selection.table[selection.table["domain"] == domain]
            clips = selection.unit == "clips"
            found.append(
                f"{title(sorted(set(part['language'])), part) if clips else called}: {len(part)} {selection.unit}"
            )
        what = "real speech, collection" if selection.unit == "clips" else selection.unit
        say(f"{what} {selection.collection}: {', '.join(found)}")
    if selection.kind == "real" and selection.absent:
        free = [name for name in selection.absent if name in CORPORA and CORPORA[name].downloads]
        how = [f"`metaser data fetch {' '.join(free)}` gets {'them' if len(free) > 1 else 'it'}"] if free else []
        if len(free) < len(selection.absent):
            how.append(f"`metaser data list` says where to get {'the others' if free else 'them'}")
        say(f"not there and left out: {', '.join(selection.absent)} ({'; '.join(how)})")
