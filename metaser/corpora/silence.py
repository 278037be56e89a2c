"""The ``silence`` pseudo-corpus: the fixed class of N+F-way tasks (Fixed-MAML; Naman et al., arXiv 2101.01356).

There the class is background noise mixed at random levels. The noises of a published collection may not be passed on,
so they are made here: each clip mixes 0 to 3 of white, pink and brown noise, mains hum with harmonics, a far-off
babble and clicks, each at its own level, with dither below it all. A clip of no noise is near-digital silence.

The clips come from 12 sessions, given as speakers: each has its own favourite noises, colour, hum frequency and level,
so that training, test and support clips can be taken from disjoint sessions, as with speakers.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import product
from pathlib import PurePosixPath

import numpy as np

from metaser.corpora.base import Expected, Utterance
from metaser.corpora.generated import RATE, GeneratedCorpus, Render, coloured_noise

SEED = 20101356
SESSIONS, TAKES = 12, 50
NOISES = ("white", "pink", "brown", "hum", "babble", "clicks")
GRAMMAR = re.compile(r"(session\d\d)/\1_silence_(\d\d)\.flac")


def synthesise(session: int, take: int) -> tuple[np.ndarray, int]:
    """One clip of noise.

    Args:
        session: 0 to 11: which room and recorder.
        take: 0 to 49.

    Returns:
        ``(samples,)`` float32 between -1 and 1, 1.0 to 3.5 s; and the rate in Hz.
    """
    room = np.random.default_rng([SEED, 1, session])
    preference = room.dirichlet(np.full(len(NOISES), 1.0))
    slope, mains, gain = room.uniform(-1, 1), room.choice([50.0, 60.0]), room.uniform(-62, -40)
    rng = np.random.default_rng([SEED, 2, session, take])
    samples = int(rng.uniform(1.0, 3.5) * RATE)
    # Triangular dither of one 16-bit step: what a recorder leaves of true silence.
    clip = (rng.random(samples) - rng.random(samples)) / 32768
    for name in rng.choice(NOISES, size=rng.integers(0, 4), replace=False, p=preference * 0.94 + 0.01):
        level = gain + rng.normal(0, 9)
        clip = clip + 10 ** (min(level, -22.0) / 20) * noise(str(name), rng, samples, slope, mains)
    return np.clip(clip, -1, 1).astype(np.float32), RATE


def noise(name: str, rng: np.random.Generator, samples: int, slope: float, mains: float) -> np.ndarray:
    """One of `NOISES`, ``(samples,)``, of about unit RMS.

    Args:
        name: Which.
        rng: Where its randomness comes from.
        samples: How many.
        slope: The room's own colour, dB per octave added to the noise's.
        mains: The hum's frequency in Hz.
    """
    seconds = np.arange(samples) / RATE
    if name == "hum":
        harmonics = np.arange(1, 9)
        weights = rng.uniform(0.1, 1.0, 8) / harmonics
        waves = np.sin(2 * np.pi * mains * harmonics[:, None] * seconds + rng.uniform(0, 2 * np.pi, (8, 1)))
        return np.sqrt(2 / np.sum(weights**2)) * (weights @ waves)
    if name == "clicks":
        clicks = np.zeros(samples)
        clicks[rng.integers(0, samples, 1 + rng.poisson(2 * samples / RATE))] = rng.normal(0, 30)
        return np.convolve(clicks, np.exp(-np.arange(48) / 8) * rng.standard_normal(48), mode="same")
    if name == "babble":
        import scipy.fft

        # Many far voices: noise in the band of speech, its level wandering at the rate of syllables.
        length = scipy.fft.next_fast_len(samples, real=True)
        band = np.abs(scipy.fft.rfftfreq(length, 1 / RATE) - 900) < 700
        murmur = scipy.fft.irfft(scipy.fft.rfft(coloured_noise(rng, length, 4 + slope)) * band, length)[:samples]
        knots = np.arange(0, samples + RATE, RATE // 8)
        swell = np.interp(np.arange(samples), knots, rng.gamma(4, 0.25, len(knots)))
        return swell * murmur / np.sqrt(np.mean(murmur**2))
    return coloured_noise(rng, samples, {"white": 0.0, "pink": 3.0, "brown": 6.0}[name] + slope)


class Silence(GeneratedCorpus):
    """Noise without speech: 12 sessions of 50 clips, emotion ``silence``, no language and no gender."""

    name = "silence"
    title = "metaser's silence"
    languages = ()
    licence = "made by metaser; free to use"
    home = "https://arxiv.org/abs/2101.01356"
    expected = Expected(
        emotions={"silence": SESSIONS * TAKES},
        speakers={f"session{session:02}": TAKES for session in range(SESSIONS)},
        rates=(RATE,),
    )

    def plan(self) -> dict[str, Render]:
        """Every clip's file name and what renders it."""
        return {f"session{session:02}/session{session:02}_silence_{take:02}.flac": partial(synthesise, session, take)
                for session, take in product(range(SESSIONS), range(TAKES))}  # fmt: skip

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``session03/session03_silence_17.flac``: session and take."""
        match = GRAMMAR.fullmatch(relative.as_posix())
        if match is None or int(match[1][-2:]) >= SESSIONS:
            return None
        return Utterance(speaker=match[1], gender="", emotion="silence", text="", language="")
