"""A synthetic multilingual corpus: six invented languages, six speakers each, six emotions; the default without data.

Source-filter synthesis: glottal pulses with jitter and shimmer, plus noise, shaped by moving formants (Fant 1960; the
resonators are Klatt's, JASA 67, 1980). An emotion changes only what the literature reports: F0 level and range,
intensity, rate, spectral tilt, jitter and pauses. `EFFECTS` follows the signs on which these agree, the sizes are ours:

- Murray & Arnott, "Toward the simulation of emotion in synthetic speech", JASA 93, 1993
- Banse & Scherer, "Acoustic profiles in vocal emotion expression", J. Pers. Soc. Psychol. 70, 1996
- Burkhardt & Sendlmeier, "Verification of acoustical correlates of emotional speech ...", ISCA workshop, 2000
- Juslin & Laukka, "Communication of emotions in vocal expression ...", Psychol. Bull. 129, 2003
- Scherer, "Vocal communication of emotion: a review of research paradigms", Speech Communication 40, 2003

As in real corpora, what carries an emotion varies: each utterance has its own strength and may lean towards an emotion
it is often confused with; each speaker and each language uses some cues more than others; microphones and rooms differ.
Numbers obtained on it say that a method works, never how well it does on people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import PurePosixPath

import numpy as np

from metaser.corpora import languages as invented
from metaser.corpora import voice
from metaser.corpora.base import Expected, Utterance
from metaser.corpora.generated import RATE, GeneratedCorpus, Render, coloured_noise
from metaser.corpora.languages import CONSONANTS, LANGUAGES, SEED, sentence_of
from metaser.corpora.voice import HOP, WINDOW, smooth

EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
SENTENCES, TAKES = 6, 12
GRAMMAR = re.compile(r"(x-([a-z]{3}))/(\2([fm])\d)_([a-z]+)_(s\d)_(\d\d)\.flac")

#: What an emotion changes at full strength, in the order of the columns of `EFFECTS`.
CUES = ("f0_level", "f0_range", "intensity", "rate", "tilt", "jitter", "pauses")

#: Semitones, factor, dB, factor, dB per octave (positive: more high frequencies), factor, added probability of a pause.
EFFECTS = {
    "anger": (4.0, 1.60, 8.0, 1.15, 3.5, 1.5, 0.00),
    "disgust": (-3.0, 0.90, -2.0, 0.80, 1.2, 2.5, 0.15),
    "fear": (6.0, 0.70, -2.5, 1.30, 0.5, 3.0, 0.10),
    "happiness": (4.5, 1.80, 4.5, 1.08, 1.5, 1.0, 0.00),
    "neutral": (0.0, 1.00, 0.0, 1.00, 0.0, 1.0, 0.00),
    "sadness": (-2.0, 0.55, -7.0, 0.78, -3.0, 1.3, 0.30),
}
#: Columns that multiply; they are scaled as logarithms.
FACTORS = np.array([False, True, False, True, False, True, False])
#: What differs from one utterance to the next for no reason: standard deviations in the units of `EFFECTS` (or log).
WANDERING = np.array([0.8, 0.12, 1.8, 0.05, 0.5, 0.2, 0.05])
#: What each emotion is confused with (Banse & Scherer 1996; Scherer 2003).
NEIGHBOURS = {
    "anger": ("happiness", "disgust"),
    "disgust": ("sadness", "neutral", "anger"),
    "fear": ("happiness", "sadness"),
    "happiness": ("anger", "fear", "neutral"),
    "neutral": ("sadness", "disgust", "happiness"),
    "sadness": ("neutral", "disgust"),
}


@dataclass(frozen=True)
class Speaker:
    """A speaker and the recordings of them.

    Attributes:
        tract: Factor of all formants: a shorter vocal tract has higher ones.
        f0: In Hz, when neutral.
        breath: Noise among the pulses, of their RMS.
        tilt: Of the source and the microphone, dB per octave.
        level: Of neutral speech, dB below full scale.
        snr: Of neutral speech over the room, dB.
        cues: How much of each of `CUES` they use, as factors.
        habits: What they add to each cue whatever the emotion, in the units of `WANDERING`.
    """

    tract: float
    f0: float
    breath: float
    tilt: float
    level: float
    snr: float
    cues: np.ndarray
    habits: np.ndarray


@cache
def speaker_of(language: str, name: str) -> Speaker:
    """The speaker ``name`` of `SPEAKERS` in a language; the same each time."""
    rng = np.random.default_rng([SEED, 1, list(LANGUAGES).index(language), SPEAKERS.index(name)])
    female = name[0] == "f"
    return Speaker(
        tract=(1.16 if female else 1.0) * rng.uniform(0.95, 1.05),
        f0=(200 if female else 115) * 2 ** ((rng.uniform(-2.5, 2.5) + LANGUAGES[language].lift) / 12),
        breath=rng.uniform(0.01, 0.04) * (1.5 if female else 1.0),
        tilt=-7.0 + LANGUAGES[language].recording[1] + rng.normal(0, 0.7),
        level=-33 + LANGUAGES[language].recording[0] + rng.normal(0, 2.5),
        snr=rng.uniform(22, 40),
        cues=np.exp(rng.normal(0, 0.2, len(CUES))) * np.exp(rng.normal(0, 0.1)),
        habits=rng.normal(0, 0.6, len(CUES)) * WANDERING,
    )


@cache
def dialect_of(language: str) -> dict[str, np.ndarray]:
    """Each emotion's effect on each of `CUES` in a language, factors as logarithms.

    Languages share the direction of most effects but not their size: an accent of its own in expressing each emotion
    (Elfenbein et al., "Toward a dialect theory", Emotion 7, 2007). It is why transfer between languages loses accuracy.
    """
    rng = np.random.default_rng([SEED, 4, list(LANGUAGES).index(language)])
    dialect = {}
    for emotion, row in EFFECTS.items():
        effect = np.where(FACTORS, np.log(np.where(FACTORS, row, 1)), row) * LANGUAGES[language].cues
        dialect[emotion] = effect * np.exp(rng.normal(0, 0.3, len(CUES))) + rng.normal(0, 0.8, len(CUES)) * WANDERING
    return dialect


def cues_of(rng: np.random.Generator, language: str, speaker: Speaker, emotion: str) -> dict[str, float]:
    """The cues of one utterance, in the units of `EFFECTS`: the emotion's, as this language and speaker show it."""
    profile = dialect_of(language)
    # Most utterances are plain; about one in five leans towards a neighbour, and strength runs from faint to full.
    lean = rng.uniform(0.25, 0.6) * (rng.random() < 0.2)
    strength = 0.5 + 0.8 * rng.beta(2.5, 2.0)
    shown = (1 - lean) * profile[emotion] + lean * profile[str(rng.choice(NEIGHBOURS[emotion]))]
    shown = strength * shown * speaker.cues
    shown = shown + speaker.habits + rng.normal(0, 1, len(CUES)) * WANDERING
    return dict(zip(CUES, np.where(FACTORS, np.exp(shown), shown).tolist(), strict=True))


def segments_of(rng: np.random.Generator, language: str, sentence: int, cues: dict[str, float]) -> np.ndarray:
    """The utterance as ``(segments, 9)``: the columns of `CONSONANTS`, then melody in semitones."""
    spoken = LANGUAGES[language]
    words = sentence_of(language, sentence)
    pause = np.array([0, 500, 1500, 2500, 0, 0, 900, 900, 0], float)
    rows = [np.array([rng.uniform(60, 180), *pause[1:]])]
    for number, word in enumerate(words):
        fallen = False
        for onset, vowel, coda, tone in word:
            stressed = tone == 1
            melody = {"stress": tone, "tone": tone, "accent": -0.6 if fallen else 0.6, "level": 0.0}[spoken.melody]
            fallen |= stressed
            length = spoken.vowel_ms * (spoken.lengthening if stressed else 1) * rng.uniform(0.85, 1.15) / cues["rate"]
            body = (length, *spoken.vowels[vowel], 1.0 if stressed else 0.8, 0, 900, 900)
            for symbols in (onset, None, coda):
                for segment in (body,) if symbols is None else (s for c in symbols for s in CONSONANTS[c]):
                    row = np.array([*segment, melody * spoken.range], float)
                    row[0] *= 1 if symbols is None else cues["rate"] ** -0.6  # Consonants give way less than vowels.
                    rows.append(row)
        if number + 1 == len(words):
            rows[-1][0] *= 1.3  # Phrase-final lengthening.
            rows[-1][8] -= 0.8 * spoken.range
        elif rng.random() < 0.06 + cues["pauses"]:
            rows.append(np.array([rng.uniform(90, 260), *pause[1:]]))
    rows.append(np.array([rng.uniform(60, 180), *pause[1:]]))
    return np.array(rows)


def synthesise(language: str, speaker: str, emotion: str, take: int) -> tuple[np.ndarray, int]:
    """One clip; the same samples each time, whatever was made before.

    Args:
        language: A key of `LANGUAGES`.
        speaker: One of `SPEAKERS`.
        emotion: One of `EMOTIONS`.
        take: 0 to 11; the sentence is ``take % 6``.

    Returns:
        ``(samples,)`` float32 between -1 and 1; and the rate in Hz.

    Raises:
        ValueError: if there is no such language, speaker, emotion or take.
    """
    who = speaker_of(language, speaker)
    place = (list(LANGUAGES).index(language), SPEAKERS.index(speaker), EMOTIONS.index(emotion), take)
    rng = np.random.default_rng([SEED, 3, *place])
    cues = cues_of(rng, language, who, emotion)
    segments = segments_of(rng, language, take % SENTENCES, cues)

    # From segments to frames of 8 ms: hold each target, then smooth, so that formants glide from one to the next.
    edges = np.round(np.cumsum(segments[:, 0]) * RATE / 1000 / HOP).astype(int)
    frames = np.repeat(segments, np.diff(edges, prepend=0), axis=0)
    formants, noise_band = smooth(frames[:, 1:4], 7) * who.tract, frames[:, 6:8]
    voicing, frication = smooth(frames[:, 4:5], 3), smooth(frames[:, 5:6], 3)
    seconds = np.arange(len(frames)) * HOP / RATE
    melody = smooth(frames[:, 8:9], 17)[:, 0] - LANGUAGES[language].declination * (seconds - seconds[-1] / 2)
    melody = melody + smooth(rng.normal(0, 1.0, (len(frames), 1)), 25)[:, 0]
    f0 = np.clip(who.f0 * 2 ** ((cues["f0_level"] + cues["f0_range"] * melody) / 12), 60, 550)

    samples = (len(frames) - 1) * HOP + WINDOW
    rough = rng.standard_normal(samples).astype(np.float32)
    pulses = voice.glottal_pulses(rng, f0, samples, 0.008 * cues["jitter"]) + np.float32(who.breath) * rough
    spectrum = (voice.short_time(pulses) * voicing) * voice.tract_response(formants, who.tilt + cues["tilt"], who.tract)
    hiss = np.exp(-0.5 * ((voice.FREQUENCIES - noise_band[:, :1]) / noise_band[:, 1:]) ** 2)
    tilted = (np.maximum(voice.FREQUENCIES, 100) / 1000) ** (0.5 * cues["tilt"] / 6.02)
    speech = voice.overlap_add(spectrum + voice.short_time(rough) * (hiss * tilted * frication * 0.25))
    loud = 10 ** ((who.level + cues["intensity"]) / 20) / np.sqrt(np.mean(speech**2))
    room = 10 ** ((who.level - who.snr + rng.normal(0, 2)) / 20) * coloured_noise(rng, len(speech), 4.0)
    return np.clip(loud * speech + room, -1, 1).astype(np.float32), RATE


class Synthetic(GeneratedCorpus):
    """The synthetic corpus: 72 clips per language and emotion, 12 of each speaker."""

    name = "synthetic"
    title = "metaser's synthetic corpus"
    languages = tuple(LANGUAGES)
    licence = "made by metaser; free to use"
    home = "metaser/corpora/synthetic.py"
    expected = Expected(
        emotions={emotion: len(LANGUAGES) * len(SPEAKERS) * TAKES for emotion in EMOTIONS},
        speakers={f"{language[2:]}{name}": len(EMOTIONS) * TAKES for language in LANGUAGES for name in SPEAKERS},
        rates=(RATE,),
    )
    sources = (invented, voice)

    def plan(self) -> dict[str, Render]:
        """Every clip's file name and what renders it."""
        return {f"{language}/{language[2:]}{speaker}_{emotion}_s{take % SENTENCES}_{take:02}.flac":
                partial(synthesise, language, speaker, emotion, take)
                for language, speaker, emotion, take in product(LANGUAGES, SPEAKERS, EMOTIONS, range(TAKES))}  # fmt: skip

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``x-ako/akof1_anger_s3_09.flac``: language, speaker (with gender), emotion, sentence and take."""
        match = GRAMMAR.fullmatch(relative.as_posix())
        if match is None or match[1] not in LANGUAGES or match[5] not in EMOTIONS:
            return None
        return Utterance(match[3], match[4], match[5], text=f"{match[2]}-{match[6]}", language=match[1])
