"""How large a task is."""

from __future__ import annotations

from dataclasses import dataclass


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

    def shots_of(self, name: str) -> int:
        """Support clips that are drawn of a class."""
        return self.fixed_shots if name in self.fixed else self.shots

    def queries_of(self, name: str) -> int:
        """Query clips that are drawn of a class, where there are so many."""
        return self.fixed_queries if name in self.fixed else self.queries

    def least_of(self, name: str) -> int:
        """The fewest query clips with which a class is used."""
        return min(self.queries_of(name), self.min_queries)
