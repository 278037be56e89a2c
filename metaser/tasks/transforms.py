"""The steps by which a task is drawn: `task_transforms` in learn2learn's sense, for `learn2learn.data.TaskDataset`.

`NWays` gets the random generator that decides a task and begins a `Draft` of it, `KShots` adds the support set, and `Queries` makes
it an `Episode`. What comes after changes the episode: `OrderedOutputs`, `metaser.algorithms.fmaml.FixedClasses`, a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metaser.runtime.errors import UserError
from metaser.tasks.clips import Clips, among
from metaser.tasks.shape import TaskShape
from metaser.tasks.speakers import SpeakerDivision


@dataclass(frozen=True)
class Episode:
    """The rows and outputs of one task, before any feature is touched; the fields are those of `metaser.tasks.Task`."""

    support_index: np.ndarray
    support_y: np.ndarray
    query_index: np.ndarray
    query_y: np.ndarray
    classes: tuple[str, ...]
    domain: str
    fixed: int = 0

    def on_outputs(self, outputs: tuple[str, ...]) -> Episode:
        """The same clips; output j stands for the class ``outputs[j]``, which may have no clip here."""
        place = np.array([outputs.index(name) for name in self.classes])
        return replace(self, support_y=place[self.support_y], query_y=place[self.query_y], classes=outputs)


#: An episode to another one.
Transform = Callable[[Episode], Episode]


@dataclass(frozen=True)
class Draft:
    """An episode that is being drawn.

    Attributes:
        rng: Decides what is drawn next.
        domain: What it stays within.
        clips: What there is to draw there: class → clips.
        classes: The episode's, in the order of the outputs.
        speakers: Codes of those who speak in the support set; None for anybody.
        support: Per class, the places of its support clips among its clips.
    """

    rng: np.random.Generator
    domain: str
    clips: Mapping[str, Clips]
    classes: tuple[str, ...]
    speakers: np.ndarray | None = None
    support: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class NWays:
    """A domain, all with the same probability, and N of the emotions; the classes that are in every task follow.

    Attributes:
        clips: Domain → class → clips.
        emotions: The classes to draw from, in order.
        shape: N, the other classes, and whether the drawn ones stay in order.
    """

    clips: Mapping[str, Mapping[str, Clips]]
    emotions: tuple[str, ...]
    shape: TaskShape

    def __call__(self, rng: np.random.Generator) -> Draft:
        """Decided by ``rng`` alone."""
        domain = tuple(self.clips)[rng.integers(len(self.clips))]
        drawn = rng.permutation(len(self.emotions))[: self.shape.ways]
        if self.shape.order == "fixed":
            drawn = np.sort(drawn)
        return Draft(rng, domain, self.clips[domain], (*(self.emotions[place] for place in drawn), *self.shape.fixed))


@dataclass(frozen=True)
class KShots:
    """K support clips of each class, and as many as the shape says of those that are in every task.

    Attributes:
        shape: K, and the others' number.
        speakers: Of each domain, where support and query set are to share none; else None.
    """

    shape: TaskShape
    speakers: Mapping[str, SpeakerDivision] | None = None

    def __call__(self, draft: Draft) -> Draft:
        """With a support set, and with who speaks in it."""
        rng, support, chosen = draft.rng, [], None
        if self.speakers is not None:
            own = self.speakers[draft.domain]
            chosen = own.draw(rng)
        for name in draft.classes:
            clips, places = draft.clips[name], np.empty(0, dtype=np.int64)
            if shots := self.shape.shots_of(name):
                places = np.arange(len(clips.rows))
                if chosen is not None:
                    if not among(clips.speakers, own.codes).any():
                        chosen = own.with_lent(chosen, clips, rng)
                    places = places[among(clips.speakers, chosen)]
                places = rng.permutation(places)[:shots]
            support.append(places)
        return replace(draft, speakers=chosen, support=tuple(support))


@dataclass(frozen=True)
class Queries:
    """Query clips of each class: of no recording, and where speakers are divided of no speaker, of the support set."""

    shape: TaskShape

    def __call__(self, draft: Draft) -> Episode:
        """The episode, whole.

        Raises:
            UserError: if a class is left with too few query clips.
        """
        own = [draft.clips[name] for name in draft.classes]
        taken = np.concatenate([clips.recordings[at] for clips, at in zip(own, draft.support, strict=True)])
        query = []
        for clips in own:
            free = ~among(clips.recordings, taken)
            if draft.speakers is not None:
                free &= ~among(clips.speakers, draft.speakers)
            at = draft.rng.permutation(np.flatnonzero(free))[: self.shape.queries_of(clips.name)]
            if len(at) < self.shape.least_of(clips.name):
                raise UserError(f"{clips.title} has {len(at)} clips left for the query set, "
                                f"{self.shape.min_queries} are needed; lower tasks.shots or the queries")  # fmt: skip
            query.append(at)

        def gather(drawn: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            rows = np.concatenate([clips.rows[at] for clips, at in zip(own, drawn, strict=True)])
            return rows, np.repeat(np.arange(len(own)), [len(at) for at in drawn])

        return Episode(*gather(draft.support), *gather(query), draft.classes, draft.domain)


@dataclass(frozen=True)
class OrderedOutputs:
    """The classes on outputs in the order of ``emotions``, not as they were drawn; those that are none follow.

    Attributes:
        emotions: The order.
        own: Every one of them has an output of its own, drawn or not.
    """

    emotions: Sequence[str]
    own: bool = False

    def __call__(self, episode: Episode) -> Episode:
        """The same clips on these outputs."""
        first = [name for name in self.emotions if self.own or name in episode.classes]
        return episode.on_outputs((*first, *(name for name in episode.classes if name not in self.emotions)))
