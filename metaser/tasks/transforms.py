"""What makes a task's description, step by step: `task_transforms` in learn2learn's sense.

Each takes a description and gives the next one. The first gets the random generator that decides the task, and draws an
`Episode`: which clips are in the support set and which in the query set. The others change the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaser.tasks.sampler import Episode, Sampler

#: A description to the next.
Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class DrawEpisode:
    """N classes, K clips each for the support set, others for the query set, and the fixed classes': a generator → an episode."""

    sampler: Sampler

    def __call__(self, rng: np.random.Generator) -> Episode:
        """The episode that the generator decides."""
        return self.sampler.draw(rng)


@dataclass(frozen=True)
class OrderedOutputs:
    """The classes on outputs in the order of ``emotions``, not as they were drawn.

    Attributes:
        emotions: The order.
        own: Every one of them has an output of its own, drawn or not.
    """

    emotions: Sequence[str]
    own: bool = False

    def __call__(self, episode: Episode) -> Episode:
        """The same clips on these outputs."""
        return episode.on_outputs([name for name in self.emotions if self.own or name in episode.classes])


@dataclass(frozen=True)
class FixedSupport:
    """The fixed classes' clips join the support set: plain N+F-way, with nothing fixed about them."""

    def __call__(self, episode: Episode) -> Episode:
        """The same query set, with the larger support set."""
        return episode.with_fixed_support()


def transforms_of(sampler: Sampler, order: str, fixed_support: bool) -> list[Transform]:
    """Those that the settings ask for (`metaser.config.Tasks.order`, `metaser.config.Algorithm.fixed_support`)."""
    found: list[Transform] = [DrawEpisode(sampler)]
    if order != "permuted":
        found.append(OrderedOutputs(sampler.emotions, own=order == "own"))
    return [*found, FixedSupport()] if fixed_support else found
