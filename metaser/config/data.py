"""Settings of the data: corpora, features, tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metaser.config.base import MOST, Count, Name, Section, distinct
from metaser.runtime.errors import nearest, shown


class CustomCorpus(Section):
    """A corpus of the user's own (`metaser.corpora.folder`): a tree ``speaker?/emotion/*.wav`` or a CSV file."""

    name: Name
    path: str
    language: Name


class Collection(Section):
    """Corpora that make one study together.

    Attributes:
        corpora: Registered names; a user's own classes (``path/to/file.py:Class`` or ``module:Class``); or custom corpora.
        at_least: How many of them must be there; all of them when not given.
        neutral: For corpora without neutral clips: where the fixed class may borrow them, the first that is there.
        own_neutral: If not, all borrow, and the corpora's own neutral clips are left out.
    """

    corpora: tuple[str | CustomCorpus, ...] = Field(min_length=1, strict=False)
    at_least: Count | None = None
    neutral: tuple[str, ...] = Field(default=(), strict=False)
    own_neutral: bool = True

    @model_validator(mode="after")
    def _possible(self) -> Collection:
        names = [entry if isinstance(entry, str) else entry.name for entry in self.corpora]
        distinct("corpora", names)
        if self.at_least and self.at_least > len(names):
            raise ValueError(f"at_least: {self.at_least} of {len(names)} corpora is impossible")
        return self


class Data(Section):
    """Which speech to use: the first collection that the data root holds, or the one that ``use`` names.

    Attributes:
        use: ``auto``, or a collection.
        collections: By name, in order of preference.
        images: Sets of images (`metaser.images`) instead of speech: the first that is there is used.
        emotions: The classes, in the order that fixed label order gives them; when empty, all that a domain has, each its own.
        merge: Emotions that are taken for one of the classes, such as ``{excitement: happiness}`` for IEMOCAP.
        targets: Which domains to leave out and test on, one after another; every one when empty.
        sources: The domains to train on, for all targets alike, so that one model serves them all; when empty a model is
            trained for every target, on all the others.
        source_sets: Several such, one after another. What needs a corpus that is not there is left out, and said.
    """

    use: str = "auto"
    collections: dict[str, Collection] = Field(default_factory=dict)
    images: tuple[str, ...] = Field(default=(), strict=False)
    emotions: tuple[str, ...] = Field(default=(), strict=False)
    merge: dict[str, str] = Field(default_factory=dict)
    targets: tuple[str, ...] = Field(default=(), strict=False)
    sources: tuple[str, ...] = Field(default=(), strict=False)
    source_sets: tuple[Annotated[tuple[str, ...], Field(min_length=1, strict=False)], ...] = Field(
        default=(), strict=False
    )

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """The sets of sources, if any are named."""
        return self.source_sets or ((self.sources,) if self.sources else ())

    @model_validator(mode="after")
    def _distinct(self) -> Data:
        if bool(self.collections) == bool(self.images):
            raise ValueError("give collections of corpora, or sets of images")
        if len(self.emotions) == 1 or not (self.emotions or self.images):
            raise ValueError("emotions: give two or more")
        distinct("emotions", self.emotions)
        for name, into in self.merge.items():
            if name in self.emotions or into not in self.emotions:
                raise ValueError(
                    f"merge: {shown(name)} into {shown(into)} is impossible; from none of emotions into one of them"
                )
        distinct("targets", self.targets)
        distinct("source_sets", self.source_sets)
        for key, names in [("sources", self.sources), *(("source_sets", names) for names in self.source_sets)]:
            distinct(key, names)
            both = [name for name in names if name in self.targets]
            if both:
                raise ValueError(f"{key}: {shown(both[0])} is a target; train on others")
            if names and not self.targets:
                raise ValueError(f"{key}: name the targets, too")
        if self.sources and self.source_sets:
            raise ValueError("give sources or source_sets, not both")
        if self.use not in ("auto", *self.collections):
            near = nearest(self.use, ["auto", *self.collections])
            raise ValueError(f"use: unknown collection {shown(self.use)}; {near}")
        return self


class Features(Section):
    """The recipe of `metaser.features` and the normalisation applied to what it gives."""

    recipe: str
    backend: Literal["torchaudio", "python_speech_features"] = "torchaudio"
    normalise: Literal["none", "utterance", "speaker", "language", "support"] = "none"


class Tasks(Section):
    """The shape of every task; see `metaser.tasks`.

    Attributes:
        domain: What a task stays within; the languages of the built-in synthetic corpus count as corpora, too.
        ways: N, the classes of the support set.
        fixed: The F classes that are only ever in the query set; always the last outputs, in this order.
        shots: K, support clips per class.
        fixed_shots: Support clips per fixed class, for the algorithms that ask for them (`Algorithm.fixed_support`).
        queries: Query clips per class in training.
        fixed_queries: Query clips per fixed class in training; ``queries`` when not given.
        order: Whether a task's classes take the outputs in random order (``permuted``), or always in the order of
            `Data.emotions` (``fixed``); or each class of the sources has an output of its ``own``, whichever N are drawn.
        speakers: Whether support and query may share speakers.
    """

    domain: Literal["language", "corpus"] = "language"
    ways: Annotated[int, Field(ge=2, le=MOST)]
    fixed: tuple[str, ...] = Field(default=(), strict=False)
    shots: Count
    fixed_shots: Annotated[int, Field(ge=0, le=MOST)] = 0
    queries: Count = 5
    fixed_queries: Count | None = None
    order: Literal["permuted", "fixed", "own"] = "permuted"
    speakers: Literal["mixed", "disjoint"] = "mixed"
