"""Six invented languages: their sounds, their words and how they are spoken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

SEED = 19962003

#: Consonants as segments of (ms, F1, F2, F3 in Hz, voicing, noise, the noise's centre and width in Hz).
CONSONANTS = {
    "p": ((60, 300, 800, 2300, 0, 0.005, 900, 900), (14, 400, 900, 2300, 0.1, 0.30, 900, 900)),
    "t": ((55, 300, 1700, 2600, 0, 0.005, 4000, 1500), (16, 400, 1700, 2600, 0.1, 0.45, 4200, 1500)),
    "k": ((55, 300, 1900, 2400, 0, 0.005, 1900, 700), (22, 400, 1900, 2400, 0.1, 0.45, 1900, 700)),
    "b": ((55, 220, 800, 2300, 0.12, 0, 900, 900), (10, 400, 900, 2300, 0.5, 0.15, 900, 900)),
    "d": ((50, 220, 1700, 2600, 0.12, 0, 4000, 1500), (12, 400, 1700, 2600, 0.5, 0.20, 3800, 1500)),
    "g": ((50, 220, 1900, 2400, 0.12, 0, 1900, 700), (15, 400, 1900, 2400, 0.5, 0.20, 1900, 700)),
    "s": ((95, 350, 1600, 2600, 0, 0.40, 5600, 1100),),
    "S": ((95, 350, 1800, 2500, 0, 0.45, 3200, 900),),
    "f": ((80, 350, 1100, 2300, 0, 0.14, 5000, 3000),),
    "x": ((80, 400, 1500, 2400, 0, 0.28, 1700, 600),),
    "z": ((70, 300, 1600, 2600, 0.3, 0.22, 5400, 1100),),
    "h": ((55, 500, 1500, 2500, 0.05, 0.14, 1500, 1200),),
    "m": ((70, 250, 1000, 2200, 0.35, 0, 900, 900),),
    "n": ((65, 250, 1500, 2500, 0.35, 0, 900, 900),),
    "N": ((70, 250, 2000, 2600, 0.30, 0, 900, 900),),
    "l": ((55, 350, 1200, 2800, 0.55, 0, 900, 900),),
    "r": ((28, 420, 1350, 1800, 0.5, 0, 900, 900), (16, 350, 1350, 1800, 0.12, 0, 900, 900)),
    "w": ((55, 300, 700, 2200, 0.55, 0, 900, 900),),
    "j": ((55, 280, 2200, 2900, 0.55, 0, 900, 900),),
}


@dataclass(frozen=True)
class Language:
    """An invented language.

    Attributes:
        vowels: F1, F2 and F3 of each vowel in Hz, for a vocal tract of 17 cm.
        onsets: What a syllable may begin with; one character per consonant.
        codas: What it may end with.
        melody: ``stress`` (a peak on each stressed syllable), ``tone`` (each syllable its own), ``accent`` (high until
            the word's fall) or ``level`` (only the phrase's end moves).
        syllables: The least and greatest number of syllables in a word.
        vowel_ms: Length of an unstressed vowel.
        lengthening: A stressed vowel's length, as a factor.
        declination: Semitones that F0 falls per second.
        lift: Semitones added to all its speakers' F0.
        range: Semitones of an accent or tone.
        cues: How much of each of `CUES` its speakers use.
        recording: The microphone and room of its recordings: dB, and dB per octave.
    """

    vowels: tuple[tuple[int, int, int], ...]
    onsets: tuple[str, ...]
    codas: tuple[str, ...]
    melody: str
    syllables: tuple[int, int]
    vowel_ms: float
    lengthening: float
    declination: float
    lift: float
    range: float
    cues: tuple[float, ...]
    recording: tuple[float, float]


AH, EH, IY, OH, UW = (730, 1250, 2500), (500, 1850, 2500), (290, 2250, 2950), (500, 880, 2450), (320, 800, 2300)
#: The languages; private-use codes (BCP 47), so that none is taken for an ISO one.
LANGUAGES = {
    "x-ako": Language((AH, EH, IY, OH, UW), ("k", "t", "m", "n", "p", "s", "r", "w"), ("",), "accent", (2, 4), 78, 1.1,
                      2.0, 0.5, 3.5, (1.2, 1.0, 0.8, 1.1, 0.7, 0.9, 1.0), (2, 0.5)),
    "x-bel": Language((AH, EH, IY, OH, UW, (500, 1500, 2450), (620, 1700, 2450), (300, 1750, 2150)),
                      ("b", "d", "f", "l", "S", "St", "tr", "kl", "h"), ("", "n", "t", "s", "l", "rt", "xt"), "stress",
                      (1, 3), 82, 1.5, 3.0, -0.5, 4.0, (0.8, 0.9, 1.3, 0.9, 1.3, 1.2, 1.0), (-1, -0.5)),
    "x-cun": Language((AH, IY, UW, (480, 1300, 2400), (550, 950, 2400), (300, 1900, 2300)),
                      ("t", "k", "S", "x", "j", "m", "l", "f"), ("", "", "n", "N"), "tone", (1, 2), 125, 1.0, 1.5, 1.0,
                      5.0, (0.7, 0.5, 1.1, 1.4, 1.4, 1.2, 0.7), (-3, 0.8)),
    "x-dor": Language((AH, (560, 1750, 2500), IY, (560, 950, 2450), UW, (400, 2050, 2600), (420, 800, 2400)),
                      ("p", "d", "r", "f", "l", "g", "z", "n", "br"), ("", "", "", "r", "l"), "stress", (2, 3), 92,
                      1.35, 2.5, 0.5, 5.0, (1.4, 1.4, 0.8, 1.1, 0.9, 0.7, 1.3), (3, -0.8)),
    "x-esh": Language(((680, 1350, 2450), IY, UW, (440, 1450, 2400)), ("b", "g", "k", "z", "S", "h", "x", "sk",
                      "ml"), ("", "m", "k", "z", "st", "r"), "level", (1, 4), 88, 1.2, 2.0, 0.0, 2.5,
                      (1.0, 0.8, 0.9, 0.7, 1.1, 1.4, 1.4), (-1, 0.2)),
    "x-fir": Language((AH, EH, (350, 2000, 2700), OH, (380, 1000, 2250), (600, 1200, 2450)), ("p", "t", "k", "l", "f", "s", "j"),
                      ("", "", "s", "n", "l"), "accent", (2, 3), 88, 1.25, 2.2, -0.3, 4.5, (1.1, 1.2, 1.0, 0.8, 0.8, 1.0, 0.8),
                      (1, -0.3)),
}  # fmt: skip


@cache
def sentence_of(language: str, number: int) -> tuple[tuple[tuple[str, int, str, float], ...], ...]:
    """A sentence's words, each its syllables: onset, vowel, coda, and tone (-1 to 1; 1 also marks stress)."""
    spoken = LANGUAGES[language]
    rng = np.random.default_rng([SEED, 2, list(LANGUAGES).index(language), number])
    words: list[tuple[tuple[str, int, str, float], ...]] = []
    left = rng.uniform(950, 1400)  # ms
    while left > 0:
        size = int(rng.integers(spoken.syllables[0], spoken.syllables[1] + 1))
        peak = int(rng.integers(size))
        words.append(tuple(
            (str(rng.choice(spoken.onsets)), int(rng.integers(len(spoken.vowels))), str(rng.choice(spoken.codas)),
             float(rng.choice([-1.0, 0.0, 1.0])) if spoken.melody == "tone" else float(syllable == peak))
            for syllable in range(size)
        ))  # fmt: skip
        consonants = "".join(onset + coda for onset, _, coda, _ in words[-1])
        left -= size * spoken.vowel_ms + sum(segment[0] for symbol in consonants for segment in CONSONANTS[symbol])
    return tuple(words)
