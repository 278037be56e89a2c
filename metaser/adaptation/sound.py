"""Clips as features, cut into windows where they are long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch

from metaser.corpora.audio import read_waveform
from metaser.features import Recipe
from metaser.features.clip import checked
from metaser.features.extraction import threads
from metaser.runtime.errors import UserError

#: The shortest clip or window in s that is answered, about a syllable; and the most windows of one clip: a mistyped hop asks for
#: millions.
SHORTEST, MOST = 0.2, 100_000
#: A clip whose loudest stretch of so many s is below this level, in dB of full scale, holds no speech. The quietest clip of RAVDESS
#: reaches -53 dB.
STRETCH, QUIETEST = 0.025, -65.0
#: What is said of clips that are not answered.
TOO_SHORT, SILENT = "too short", "silent"


@dataclass(frozen=True)
class Span:
    """A stretch of a clip.

    Attributes:
        clip: The clip.
        start: In s from its beginning.
        end: The same.
        note: Why it cannot be answered: `TOO_SHORT`, `SILENT`, or why it cannot be read; empty where it can.
        failed: Whether it cannot be read.
    """

    clip: str
    start: float
    end: float
    note: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Sound:
    """Features ``(clips, coefficients, frames)`` float32, and how many of their frames are valid ``(clips,)``."""

    x: torch.Tensor
    lengths: torch.Tensor

    def part(self, rows: np.ndarray) -> Sound:
        """Some of the clips."""
        return Sound(self.x[rows], self.lengths[rows])


def sound(
    clips: Sequence[str], chosen: Recipe, window: float = 0.0, hop: float = 0.0, strict: bool = True
) -> tuple[Sound, list[Span]]:
    """The features of clips, or of the windows of those that are longer than one; and which stretch of which clip each is of.

    Args:
        clips: Audio files.
        chosen: What to compute.
        window: In s; 0 for none.
        hop: In s; half a window when 0.
        strict: Whether a clip that cannot be read ends it all; if not, its features are 0, and its span says why.

    Raises:
        UserError: naming the clip that cannot be read, where it is strict; or if there are too many windows.
    """
    if not clips:
        raise UserError("no clips to ask about; name audio files, or a folder that holds some")
    if window and (window < SHORTEST or hop < 0):
        raise UserError(f"--window {window:g}: give {SHORTEST} s or more, and a --hop above 0, or 0 for whole clips")

    def read(clip: str) -> list[tuple[torch.Tensor, int, Span]]:
        try:
            waveform, rate = read_waveform(clip, chosen.rate), chosen.rate
            cuts = list(islice(stretches(len(waveform), window * rate, (hop or window / 2) * rate), MOST + 1))
            if len(cuts) > MOST:
                raise UserError(f"{clip}: more than {MOST} windows; give a longer --hop")
            parts = [(waveform[start:end], start / rate, end / rate) for start, end in cuts]
            return [(*checked(x, chosen, clip), Span(clip, begin, end, note(x, rate))) for x, begin, end in parts]
        except UserError as error:
            if strict:
                raise
            reason = str(error).removeprefix(f"{clip}: ")
            return [(torch.zeros(chosen.shape), 1, Span(clip, 0, 0, reason, failed=True))]

    with threads() as pool:
        parts = chain.from_iterable(pool.map(read, dict.fromkeys(clips)))
        x, lengths, spans = zip(*parts, strict=True)
    return Sound(torch.stack(x), torch.tensor(lengths)), list(spans)


def note(waveform: torch.Tensor, rate: int) -> str:
    """`TOO_SHORT`, `SILENT`, or nothing.

    Args:
        waveform: ``(samples,)``.
        rate: In Hz.
    """
    if len(waveform) < SHORTEST * rate:
        return TOO_SHORT
    power = waveform.unfold(0, round(STRETCH * rate), round(STRETCH * rate)).var(dim=1, correction=0).max()
    return SILENT if power < 10 ** (QUIETEST / 10) else ""


def stretches(samples: int, window: float, hop: float) -> Iterator[tuple[int, int]]:
    """Windows over a clip, the last one at its end; all of it where it is no longer than a window, or there is none."""
    if not window or samples <= window:
        yield 0, samples
        return
    size, step = round(window), max(1, round(hop))
    for start in range(0, samples - size, step):
        yield start, start + size
    yield samples - size, samples
