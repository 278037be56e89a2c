"""One few-shot task: what a learner adapts on, and what it is then asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch


@dataclass(frozen=True)
class Task(Sequence[torch.Tensor]):
    """An N-way or N+F-way K-shot task.

    As learn2learn's tasks it is a pair, ``data, labels = task``: the support set's clips first, then the query set's.

    Attributes:
        support_x: ``(N·K, coefficients, frames)``.
        support_y: ``(N·K,)`` int64, outputs 0 … N−1; the fixed classes' too where an algorithm takes them as any others.
        query_x: ``(queries, coefficients, frames)``.
        query_y: ``(queries,)`` int64, outputs 0 … N+F−1.
        classes: The class that each output stands for, N+F names; the F fixed ones last.
        fixed: F, how many of the last outputs are fixed classes.
        domain: The language or corpus that the task stays within.
        support_index: ``(N·K,)`` rows of the feature set's table.
        query_index: ``(queries,)`` rows of the feature set's table.
        support_speakers: Who speaks in each support clip; empty where nobody said.
        query_speakers: Who speaks in each query clip.
    """

    support_x: torch.Tensor
    support_y: torch.Tensor
    query_x: torch.Tensor
    query_y: torch.Tensor
    classes: tuple[str, ...]
    fixed: int
    domain: str
    support_index: torch.Tensor
    query_index: torch.Tensor
    support_speakers: tuple[str, ...] = ()
    query_speakers: tuple[str, ...] = ()

    @property
    def ways(self) -> int:
        """N, the number of classes that are not fixed."""
        return len(self.classes) - self.fixed

    @property
    def new_speakers(self) -> bool:
        """Whether the query set is of speakers who are not in the support set."""
        return not set(self.support_speakers) & set(self.query_speakers)

    @overload
    def __getitem__(self, place: int) -> torch.Tensor: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[torch.Tensor]: ...

    def __getitem__(self, place: int | slice) -> torch.Tensor | Sequence[torch.Tensor]:
        return (
            torch.cat([self.support_x, self.query_x]),
            torch.cat([self.support_y, self.query_y]),
        )[place]

    def __len__(self) -> int:
        return 2
