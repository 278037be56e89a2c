"""A whole corpus as one task: its training part is the support set, its test part the query set (MetaSER, ICASSP 2021).

``speakers="mixed"`` divides the clips at random, each class by the same share, as is published. ``speakers="disjoint"``
divides the speakers: nobody is on both sides, and no recording either (clips with the same audio count as one).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from metaser.runtime.errors import UserError
from metaser.tasks.clips import Clips, with_speakers
from metaser.tasks.speakers import DIVISIONS
from metaser.tasks.transforms import Episode


class SplitSampler:
    """Draws divisions of domains.

    Args:
        table: Utterances, as `metaser.tasks.EpisodeSampler` takes them.
        domains: The domains; each episode is of one, all with the same probability.
        emotions: The classes, in the order of the outputs.
        test: The share of a domain's clips that is asked.
        speakers: ``mixed`` or ``disjoint``.
        fraction: The share of the training part that is kept, each class by itself; the larger holds the smaller.

    Raises:
        UserError: naming the class and the domain, if no division leaves every class on both sides.
    """

    def __init__(
        self, table: pd.DataFrame, domains: Sequence[str], emotions: Sequence[str], test: float, speakers: str = "mixed",
        fraction: float = 1.0,
    ) -> None:  # fmt: skip
        self.domains, self.emotions, self.test, self.fraction = tuple(domains), tuple(emotions), test, fraction
        self.disjoint = speakers == "disjoint"
        if self.disjoint:
            table = with_speakers(table, self.domains)
        table = table[table["emotion"].isin(self.emotions)]
        self.clips, self.groups = {}, {}
        for domain in self.domains:
            here = table[table["domain"] == domain]
            who, what = (pd.factorize(here[column])[0] for column in ("speaker", "group"))
            places = {name: (here["emotion"] == name).to_numpy() for name in self.emotions}
            self.clips[domain] = {
                name: Clips(domain, name, here.index.to_numpy()[at], who[at], what[at]) for name, at in places.items()
            }
            joined = components(who, what)
            self.groups[domain] = {name: joined[at] for name, at in places.items()}
            for clips in self.clips[domain].values():
                if len(clips.rows) < 2:
                    raise UserError(f"{clips.title} has {len(clips.rows)} clips, too few to divide; leave it out")
            self._divide(domain, np.random.default_rng(0))

    def draw(self, rng: np.random.Generator) -> Episode:
        """One division, decided by ``rng`` alone.

        Raises:
            UserError: as the sampler itself.
        """
        domain = self.domains[rng.integers(len(self.domains))]
        rows, y, training, asked = self._divide(domain, rng)
        kept = np.sort(np.concatenate([self._part(training[y[training] == label], rng) for label in np.unique(y)]))
        return Episode(rows[kept], y[kept], rows[asked], y[asked], self.emotions, domain)

    def _part(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`fraction` of a class's training clips, two at least."""
        return rng.permutation(places)[: max(2, round(self.fraction * len(places)))]

    def _divide(self, domain: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A domain's rows and labels, and the places of the training and of the test part in them."""
        clips = self.clips[domain]
        rows = np.concatenate([clips[name].rows for name in self.emotions])
        y = np.repeat(np.arange(len(self.emotions)), [len(clips[name].rows) for name in self.emotions])
        state = int(rng.integers(2**31))
        if not self.disjoint:
            return rows, y, *by_class(y, self.test, state)
        groups = np.concatenate([self.groups[domain][name] for name in self.emotions])
        return rows, y, *self._by_speaker(domain, y, groups, state)

    def _by_speaker(self, domain: str, y: np.ndarray, groups: np.ndarray, state: int) -> tuple[np.ndarray, np.ndarray]:
        """The first of random divisions of the speakers with two training clips and a test clip of every class at least."""
        least = np.zeros(len(self.emotions), dtype=int)
        for attempt in range(DIVISIONS):
            for training, asked in by_group(y, self.test, groups, state + attempt):
                counts = np.stack([np.bincount(y[part], minlength=len(least)) for part in (training, asked)])
                least = (counts - [[1], [0]]).min(axis=0)
                if least.min() > 0:
                    return training, asked
        lacking = self.emotions[int(least.argmin())]
        raise UserError(f"{domain}: no division of its {len(set(groups))} speakers leaves clips of {lacking} on both sides; "
                        "use tasks.speakers: mixed")  # fmt: skip


def by_class(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places to keep and places set apart, at random: of each class that share, a clip at least and all but one at most."""
    rng, apart = np.random.default_rng(seed), np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        places = rng.permutation(np.flatnonzero(y == label))
        apart[places[: min(len(places) - 1, max(1, round(share * len(places))))]] = True
    return np.flatnonzero(~apart), np.flatnonzero(apart)


def by_group(
    y: np.ndarray, share: float, groups: Sequence[str] | np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random divisions that keep groups whole: about that share set apart, of each class as far as the groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts = min(round(1 / share), len(set(groups)), int(np.bincount(y).max()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is too small for all parts may still do for one
        if parts > 1:
            yield from StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32).split(y, y, list(groups))


def components(who: np.ndarray, what: np.ndarray) -> np.ndarray:
    """A number per clip: the same for all that are bound together by a speaker or a recording, directly or by others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    speakers = who.max(initial=-1) + 1
    nodes = speakers + what.max(initial=-1) + 1
    links = coo_array((np.ones(len(who)), (who, speakers + what)), shape=(nodes, nodes))
    numbers: np.ndarray = connected_components(links, directed=False)[1][who]
    return numbers
