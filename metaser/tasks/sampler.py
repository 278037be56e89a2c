"""Which clips make a task: N-way K-shot, optionally with F fixed classes (N+F-way, Fixed-MAML, arXiv 2101.01356).

Support and query never share a clip or a recording (clips with the same audio count as one), and with
``speakers="disjoint"`` no speaker either. Fixed classes are never in the support set and always take the last outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd

from metaser.corpora.base import SHARED
from metaser.runtime.errors import UserError

#: Of the speakers (or noise sessions) of shared clips, every third serves test tasks only, the others training only.
SHARED_TEST_EVERY = 3

#: Random divisions of the speakers that are tried for one task before the best of them is taken.
DIVISIONS = 50

#: Comparisons up to which `among` makes them all.
OUTRIGHT = 20_000


@dataclass(frozen=True)
class TaskShape:
    """The shape of a task; the attributes are those of `metaser.config.Tasks`, and:

    Attributes:
        min_queries: The fewest query clips with which a class is used; ``queries`` is what is taken where there are more.
    """

    ways: int
    shots: int
    queries: int
    min_queries: int
    fixed: tuple[str, ...] = ()
    fixed_queries: int = 0
    order: str = "permuted"
    speakers: str = "mixed"
    fixed_shots: int = 0


@dataclass(frozen=True)
class Episode:
    """The rows and outputs of one task, before any feature is touched; the fields are those of `Task`, and:

    Attributes:
        extra_index: ``(F·fixed_shots,)`` rows of the fixed classes that would be in the support set, were they not fixed.
        extra_y: Their outputs.
    """

    support_index: np.ndarray
    support_y: np.ndarray
    query_index: np.ndarray
    query_y: np.ndarray
    classes: tuple[str, ...]
    fixed: int
    domain: str
    extra_index: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    extra_y: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def with_fixed_support(self) -> Episode:
        """The same clips, with those of the fixed classes in the support set as any class's: plain N+F-way."""
        return replace(self, support_index=np.concatenate([self.support_index, self.extra_index]),
                       support_y=np.concatenate([self.support_y, self.extra_y]))  # fmt: skip

    def on_outputs(self, emotions: Sequence[str]) -> Episode:
        """The same clips, with an output for each of ``emotions``, drawn or not, in their order; the fixed classes follow."""
        outputs = (*emotions, *self.classes[len(self.classes) - self.fixed :])
        place = np.array([outputs.index(name) for name in self.classes])
        return replace(self, support_y=place[self.support_y], query_y=place[self.query_y], extra_y=place[self.extra_y],
                       classes=outputs)  # fmt: skip


@dataclass(frozen=True)
class Clips:
    """The clips of one class in one domain: table rows, with a code for their speaker and for their recording."""

    rows: np.ndarray
    speakers: np.ndarray
    recordings: np.ndarray


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


@dataclass(frozen=True)
class Counts:
    """What dividing a domain's speakers needs to know, per class of the domain's own.

    Attributes:
        names: The classes.
        speakers: Codes of the speakers.
        clips: ``(classes, speakers)``.
        shots: ``(classes,)``: support clips that are needed.
        wanted: ``(classes,)``: query clips that are wanted.
    """

    names: tuple[str, ...]
    speakers: np.ndarray
    clips: np.ndarray
    shots: np.ndarray
    wanted: np.ndarray


class EpisodeSampler:
    """Draws episodes from some domains of an utterance table.

    Args:
        table: Utterances with the columns of `metaser.corpora.base.COLUMNS` and ``domain``; its index names the rows of
            the features. With ``speakers="disjoint"`` clips without a known speaker are left out.
        domains: The domains to draw from, each with the same probability.
        emotions: The classes that can be in the support set, in the order that ``order="fixed"`` gives them.
        shape: The tasks' shape.
        part: ``train`` or ``test``: which part of the shared clips to use.

    Attributes:
        lenders: Domain and fixed class → the corpus whose shared clips it borrows.

    Raises:
        UserError: naming the class and the domain, if a class has too few clips (or speakers) for the shape; or the corpus
            that lends it.
    """

    def __init__(
        self, table: pd.DataFrame, domains: Sequence[str], emotions: Sequence[str], shape: TaskShape, part: str
    ) -> None:
        if shape.ways > len(emotions):
            raise UserError(
                f"tasks.ways: {shape.ways} of {len(emotions)} emotions ({', '.join(emotions)}) is impossible"
            )
        self.domains, self.emotions, self.shape = tuple(domains), tuple(emotions), shape
        if shape.speakers == "disjoint":
            table = with_speakers(table, self.domains)
        speakers = pd.factorize(table["corpus"] + "/" + table["speaker"])[0]
        recordings = pd.factorize(table["group"])[0]

        rows, found = table.index.to_numpy(), table.groupby(["domain", "emotion"]).indices

        def clips(domain: str, name: str) -> Clips:
            at = found.get((domain, name), np.empty(0, dtype=np.int64))
            return Clips(rows[at], speakers[at], recordings[at])

        shared = {name: shared_clips(clips(SHARED, name), part) for name in shape.fixed}
        lenders = table[table["domain"] == SHARED].groupby("emotion")["corpus"].first()
        self.lenders: dict[tuple[str, str], str] = {}
        self.clips = {
            domain: {name: clips(domain, name) for name in (*emotions, *shape.fixed)} for domain in self.domains
        }
        self.counts: dict[str, Counts] = {}
        for domain in self.domains:
            for name in shape.fixed:
                if not len(self.clips[domain][name].rows):
                    self.clips[domain][name] = shared[name]
                    if name in lenders:
                        self.lenders[domain, name] = lenders[name]
                        self._check_lender(domain, name, part)
            self._check(domain)

    def _check(self, domain: str) -> None:
        """Refuses by name a class that the shape asks too much of."""
        shape = self.shape
        for name in (*self.emotions, *shape.fixed):
            least = min(self._wanted(name), shape.min_queries)
            shots, found = self._shots(name), len(self.clips[domain][name].rows)
            if found < least + shots:
                terms = f"{shots} support + {least} query clips" if shots else f"{least} query clips"
                raise UserError(f"{self._class(domain, name)} has {found} clips, too few for {terms}; "
                                f"lower tasks.shots or the queries, or leave the class out")  # fmt: skip
        if shape.speakers == "disjoint":
            self.counts[domain] = self._count(domain)
            self._divide(domain, np.random.default_rng(0))

    def _check_lender(self, domain: str, name: str, part: str) -> None:
        """Refuses a shared class whose lender has too few speakers for one part: they serve training or test tasks, never both.

        Raises:
            UserError: naming the lender.
        """
        there = len(np.unique(self.clips[domain][name].speakers))
        apart = self.shape.speakers == "disjoint" and self.shape.fixed_shots > 0
        needed = 2 if apart else 1
        if there < needed:
            lender, setting = self.lenders[domain, name], " with tasks.speakers: disjoint" if apart else ""
            raise UserError(
                f"class {name}, which {domain} lacks, is lent by {lender}: {there} of its speakers serves {part} tasks, {needed} "
                f"are needed{setting}; in the collection's key neutral name a lender with {2 * needed} speakers or more"
            )

    def _class(self, domain: str, name: str) -> str:
        """How an error names a class: with its lender where it is lent by another corpus than that of its own name."""
        lender = self.lenders.get((domain, name), name)
        return f"{domain}: class {name}{f' (lent by {lender})' if lender != name else ''}"

    def _shots(self, name: str) -> int:
        return self.shape.fixed_shots if name in self.shape.fixed else self.shape.shots

    def _wanted(self, name: str) -> int:
        return self.shape.fixed_queries if name in self.shape.fixed else self.shape.queries

    def draw(self, rng: np.random.Generator) -> Episode:
        """One episode, decided by ``rng`` alone.

        Raises:
            UserError: if a class is left with too few query clips.
        """
        shape = self.shape
        domain = self.domains[rng.integers(len(self.domains))]
        chosen = rng.permutation(len(self.emotions))[: shape.ways]
        if shape.order == "fixed":
            chosen = np.sort(chosen)
        classes = (*(self.emotions[i] for i in chosen), *shape.fixed)
        clips = self.clips[domain]
        support_speakers = self._divide(domain, rng) if shape.speakers == "disjoint" else None

        support = []
        for name in classes if shape.fixed_shots else classes[: shape.ways]:
            if support_speakers is not None and not among(clips[name].speakers, self.counts[domain].speakers).any():
                support_speakers = np.concatenate([support_speakers, self._some(clips[name].speakers, rng)])
            allowed = among(clips[name].speakers, support_speakers) if support_speakers is not None else slice(None)
            support.append(rng.permutation(np.arange(len(clips[name].rows))[allowed])[: self._shots(name)])
        taken = np.concatenate([clips[name].recordings[at] for name, at in zip(classes, support, strict=False)])

        query = []
        for name in classes:
            free = ~among(clips[name].recordings, taken)
            if support_speakers is not None:
                free &= ~among(clips[name].speakers, support_speakers)
            at = rng.permutation(np.flatnonzero(free))[: self._wanted(name)]
            if len(at) < min(self._wanted(name), shape.min_queries):
                raise UserError(f"{self._class(domain, name)} has {len(at)} clips left for the query set, "
                                f"{shape.min_queries} are needed; lower tasks.shots or the queries")  # fmt: skip
            query.append(at)

        def gather(drawn: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            rows = [clips[name].rows[at] for name, at in zip(classes, drawn, strict=False)]
            return np.concatenate(rows), np.repeat(np.arange(len(drawn)), [len(at) for at in drawn])

        (support_index, support_y), (query_index, query_y) = gather(support), gather(query)
        own = support_y < shape.ways
        return Episode(support_index[own], support_y[own], query_index, query_y, classes, len(shape.fixed), domain,
                       support_index[~own], support_y[~own])  # fmt: skip

    def _some(self, speakers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Of a shared class's speakers, the fewest random ones with `TaskShape.fixed_shots` clips."""
        names, counts = np.unique(speakers, return_counts=True)
        order = rng.permutation(len(names))
        size = int((counts[order].cumsum() >= self.shape.fixed_shots).argmax()) + 1
        return names[order[:size]]

    def _count(self, domain: str) -> Counts:
        """Clips per class and speaker, of the classes that are the domain's own (shared clips have other speakers)."""
        clips, fixed = self.clips[domain], self.shape.fixed
        emotional = np.unique(np.concatenate([clips[name].speakers for name in self.emotions]))
        own = [*self.emotions, *(name for name in fixed if among(clips[name].speakers, emotional).any())]
        speakers = np.unique(np.concatenate([clips[name].speakers for name in own]))
        return Counts(
            names=tuple(own),
            speakers=speakers,
            clips=np.stack([(clips[name].speakers[:, None] == speakers).sum(axis=0) for name in own]),
            shots=np.array([self._shots(name) for name in own]),
            wanted=np.array([self._wanted(name) for name in own]),
        )

    def _divide(self, domain: str, rng: np.random.Generator) -> np.ndarray:
        """Speakers for the support set: few enough to leave all others to the query set, enough for K clips a class.

        Raises:
            UserError: naming the class for which no division leaves enough clips.
        """
        shape, count = self.shape, self.counts[domain]
        best, best_share, worst, left_for_worst = None, -1.0, 0, 0
        for _ in range(DIVISIONS):
            order = rng.permutation(len(count.speakers))
            supplied = count.clips[:, order].cumsum(axis=1)
            enough = (supplied >= count.shots[:, None]).all(axis=0)
            if not enough.any():
                break
            size = int(enough.argmax()) + 1
            left = supplied[:, -1] - supplied[:, size - 1]
            shares = left / count.wanted
            if shares.min() > best_share:
                best, best_share, worst = count.speakers[order[:size]], float(shares.min()), int(shares.argmin())
                left_for_worst = int(left[worst])
            if best_share >= 1:
                break
        needed = min(int(count.wanted[worst]), shape.min_queries)
        if best is None or left_for_worst < needed:
            raise UserError(
                f"{domain}: class {count.names[worst]} has too few clips for {shape.shots} support + {needed} query clips "
                f"of other speakers ({len(count.speakers)} speakers); lower tasks.shots or use speakers: mixed"
            )
        return best


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
    return (codes[:, None] == wanted).any(axis=1)


def shared_clips(clips: Clips, part: str) -> Clips:
    """The part of the shared clips that training or test tasks use: their speakers are disjoint."""
    speakers = np.unique(clips.speakers)
    kept = among(clips.speakers, speakers[::SHARED_TEST_EVERY]) == (part == "test")
    return Clips(clips.rows[kept], clips.speakers[kept], clips.recordings[kept])
