"""What a feature recipe is: every number that turns a waveform into an array, and the code that does it.

A new kind of recipe is one file with a subclass of `Recipe`; `metaser.features.recipes` lists the recipes by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from metaser.runtime.errors import UserError, nearest

_BACKENDS = ("torchaudio", "python_speech_features")


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """How a waveform becomes an array ``(coefficients, frames)``; what all kinds of recipes share.

    Attributes:
        name: The name it is known by.
        rate: Sample rate in Hz that clips are brought to.
        seconds: The clip's first part that is used, in s (after trimming); None for all of it.
        trim_db: Leading and trailing windows this many dB below the clip's loudest window are cut off; None for none.
        window: Of the trimming, and of the analysis where there is one, in samples.
        hop: Step between windows, in samples.
        backend: ``torchaudio`` or, for MFCC, ``python_speech_features``.

    Raises:
        UserError: naming the field, when a value cannot be.
    """

    name: str
    rate: int
    seconds: float | None = None
    trim_db: float | None = None
    window: int
    hop: int
    backend: str = "torchaudio"

    def __post_init__(self) -> None:
        self._check_counts("rate", "window", "hop")
        self._check_choices(backend=_BACKENDS)
        for field in ("seconds", "trim_db"):
            value = getattr(self, field)
            if value is not None and not (is_number(value) and value > 0):
                raise self._refusal(field, "give a number above 0, or null")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """``(coefficients, frames)`` of the array."""

    @abstractmethod
    def features(self, waveform: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The array, and how many of its frames hold speech: 1 or more, 0 from there on.

        Args:
            waveform: ``(samples,)`` float32 at ``rate`` Hz, trimmed and cut; at least one sample.

        Raises:
            UserError: if it needs weights that are not there.
        """

    def identity(self) -> bytes:
        """What decides the numbers beside the fields, such as the digest of weights; nothing here.

        Raises:
            UserError: if it needs weights that are not there.
        """
        return b""

    @property
    def samples(self) -> int | None:
        """The part of a clip that is used, in samples; None for all of it."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    def _check_counts(self, *names: str) -> None:
        for field in names:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self._refusal(field, "give a whole number, 1 or more")

    def _check_choices(self, **known: tuple[str, ...]) -> None:
        for field, names in known.items():
            if getattr(self, field) not in names:
                raise self._refusal(field, nearest(getattr(self, field), names))

    def _refusal(self, field: str, advice: str) -> UserError:
        return UserError(f"feature recipe {self.name}: {field} cannot be {getattr(self, field)!r}; {advice}")


def is_number(value: object) -> bool:
    """Whether it is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
