"""Which clips make a task: N-way K-shot, within one domain.

Support and query never share a clip or a recording (clips with the same audio count as one), and with
``speakers="disjoint"`` no speaker either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from metaser.runtime.errors import UserError
from metaser.tasks.clips import Clips, clips_of, with_speakers
from metaser.tasks.shape import TaskShape
from metaser.tasks.speakers import SpeakerDivision
from metaser.tasks.transforms import Episode, KShots, NWays, Queries


class Sampler(Protocol):
    """Draws episodes.

    Attributes:
        emotions: The classes that can be in the support set, in the order that ``order: fixed`` gives them.
        clips: Domain → class → what can be drawn.
    """

    emotions: tuple[str, ...]
    clips: dict[str, dict[str, Clips]]

    def draw(self, rng: np.random.Generator) -> Episode:
        """One episode, decided by ``rng`` alone."""


class EpisodeSampler:
    """Draws episodes from some domains of an utterance table: N of the emotions, and the shape's ``fixed`` classes in every task.

    Args:
        table: Utterances with the columns of `metaser.corpora.base.COLUMNS` and ``domain``; its index names the rows of
            the features. With ``speakers="disjoint"`` clips without a known speaker are left out.
        domains: The domains to draw from, each with the same probability.
        emotions: The classes that can be in the support set, in the order that ``order="fixed"`` gives them.
        shape: The tasks' shape.
        part: ``train`` or ``test``: which part of the shared clips to use.

    Raises:
        UserError: naming the class and the domain, if a class has too few clips (or speakers) for the shape; or the corpus
            that lends it.
    """

    def __init__(
        self, table: pd.DataFrame, domains: Sequence[str], emotions: Sequence[str], shape: TaskShape, part: str
    ) -> None:
        if shape.ways > len(emotions):
            raise UserError(
                f"tasks.ways: {shape.ways} of {len(emotions)} classes ({', '.join(emotions)}) is impossible"
            )
        disjoint = shape.speakers == "disjoint"
        if disjoint:
            table = with_speakers(table, domains)
        self.emotions, self.clips = tuple(emotions), clips_of(table, domains, emotions, shape.fixed, part)
        speakers = {}
        for domain, classes in self.clips.items():
            for clips in classes.values():
                check_lender(clips, shape, part)
            for clips in classes.values():
                check_size(clips, shape)
            if disjoint:
                speakers[domain] = SpeakerDivision(domain, classes, shape)
        self._ways = NWays(self.clips, self.emotions, shape)
        self._shots = KShots(shape, speakers if disjoint else None)
        self._queries = Queries(shape)

    def draw(self, rng: np.random.Generator) -> Episode:
        """One episode, decided by ``rng`` alone.

        Raises:
            UserError: if a class is left with too few query clips.
        """
        return self._queries(self._shots(self._ways(rng)))


def check_size(clips: Clips, shape: TaskShape) -> None:
    """Refuses a class that the shape asks too much of.

    Raises:
        UserError: naming it.
    """
    shots, least, found = shape.shots_of(clips.name), shape.least_of(clips.name), len(clips.rows)
    if found < shots + least:
        terms = f"{shots} support + {least} query clips" if shots else f"{least} query clips"
        raise UserError(f"{clips.title} has {found} clips, too few for {terms}; "
                        f"lower tasks.shots or the queries, or leave the class out")  # fmt: skip


def check_lender(clips: Clips, shape: TaskShape, part: str) -> None:
    """Refuses a lent class whose lender has too few speakers for one part: they serve training or test tasks, never both.

    Raises:
        UserError: naming the lender.
    """
    there, apart = len(np.unique(clips.speakers)), shape.speakers == "disjoint" and shape.shots_of(clips.name) > 0
    needed = 2 if apart else 1
    if clips.lender and there < needed:
        setting = " with tasks.speakers: disjoint" if apart else ""
        raise UserError(
            f"class {clips.name}, which {clips.domain} lacks, is lent by {clips.lender}: {there} of its speakers serves {part} "
            f"tasks, {needed} are needed{setting}; in the collection's key neutral name a lender with {2 * needed} speakers or more"
        )
