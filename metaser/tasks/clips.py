"""What tasks are drawn from: the clips of each domain and class of an utterance table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metaser.corpora.base import SHARED
from metaser.runtime.errors import UserError

#: Of the speakers (or noise sessions) of shared clips, every third serves test tasks only, the others training only.
SHARED_TEST_EVERY = 3

#: Comparisons up to which `among` makes them all.
OUTRIGHT = 20_000


@dataclass(frozen=True)
class Clips:
    """The clips of one class in one domain.

    Attributes:
        domain: The domain.
        name: The class.
        rows: ``(clips,)`` rows of the features.
        speakers: ``(clips,)``, a code for who speaks.
        recordings: ``(clips,)``, a code for the recording: clips with the same audio have the same.
        lender: The corpus that lends them, where the domain has none of its own.
    """

    domain: str
    name: str
    rows: np.ndarray
    speakers: np.ndarray
    recordings: np.ndarray
    lender: str = ""

    @property
    def title(self) -> str:
        """How an error names them: with the lender, unless the corpus is called as the class (generated silence)."""
        lent = f" (lent by {self.lender})" if self.lender not in ("", self.name) else ""
        return f"{self.domain}: class {self.name}{lent}"


def clips_of(
    table: pd.DataFrame, domains: Sequence[str], emotions: Sequence[str], fixed: Sequence[str], part: str
) -> dict[str, dict[str, Clips]]:
    """Domain → class → clips; a fixed class that a domain lacks has the shared clips instead.

    Args:
        table: Utterances with the columns of `metaser.corpora.base.COLUMNS` and ``domain``; its index names the rows.
        domains: The domains.
        emotions: Classes that are a domain's own.
        fixed: Classes that it may borrow.
        part: ``train`` or ``test``: which part of the shared clips to use; their speakers are disjoint.
    """
    speakers = pd.factorize(table["corpus"] + "/" + table["speaker"])[0]
    recordings = pd.factorize(table["group"])[0]
    rows, found = table.index.to_numpy(), table.groupby(["domain", "emotion"]).indices
    lenders = table[table["domain"] == SHARED].groupby("emotion")["corpus"].first()

    def clips(domain: str, name: str) -> Clips:
        at, lender = found.get((domain, name), np.empty(0, dtype=np.int64)), ""
        if name in fixed and not len(at):
            at, lender = found.get((SHARED, name), at), lenders.get(name, "")
            at = at[among(speakers[at], np.unique(speakers[at])[::SHARED_TEST_EVERY]) == (part == "test")]
        return Clips(domain, name, rows[at], speakers[at], recordings[at], lender)

    return {domain: {name: clips(domain, name) for name in (*emotions, *fixed)} for domain in domains}


def with_speakers(table: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """The table without clips whose speaker is not known.

    Raises:
        UserError: naming a domain that has no clip with a known speaker.
    """
    known = table["speaker"] != ""
    for domain in domains:
        here = table["domain"] == domain
        if not (here & known).any():
            raise UserError(
                f"{domain}: tasks.speakers: disjoint needs to know who speaks, and no clip's speaker is known, such as "
                f"{table.loc[here, 'path'].iloc[0]}'s; use mixed, or (EmoFilm) put the legend into its folder"
            )
    return table[known]


def held_out(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The table, its index kept, without clips that share a speaker or a text with the target's clips of their corpus.

    A corpus of several languages may have a speaker or (EmoFilm's dubbed films) a scene in more than one of them.
    """
    tested, kept = table[table["domain"] == target], pd.Series(True, index=table.index)
    for column in ("speaker", "text"):
        named = (table["corpus"] + "/" + table[column]).where(table[column] != "")
        kept &= ~named.isin(named[tested.index].dropna())
    return table[kept | (table["domain"] == target)]


def among(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each code, whether it is one of ``wanted``; small sets are compared outright, which spares most of the time."""
    if len(codes) * len(wanted) > OUTRIGHT:
        return np.isin(codes, wanted)
    found: np.ndarray = (codes[:, None] == wanted).any(axis=1)
    return found
