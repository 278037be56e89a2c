"""RAVDESS, its audio-only speech (Livingstone & Russo, PLoS ONE 13, 2018): acted North American English."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Download, Expected, Utterance

#: Modality 03 (audio), channel 01 (speech), emotion, intensity, statement, repetition, actor.
GRAMMAR = re.compile(r"03-01-(0[1-8])-(0[12])-(0[12])-0[12]-(0[1-9]|1[0-9]|2[0-4])")
EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear", "07": "disgust",
    "08": "surprise",
}  # fmt: skip
TWINS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")


class Ravdess(Corpus):
    """1440 clips: 24 actors, 2 statements, 8 emotions at 2 intensities (neutral at one), 2 repetitions."""

    name = "ravdess"
    title = "RAVDESS speech"
    languages = ("en",)
    licence = "CC BY-NC-SA 4.0"
    home = "Zenodo record 1188976"
    access = "fetch Audio_Speech_Actors_01-24.zip from Zenodo record 1188976 (Actor_01/03-01-01-01-01-01-01.wav, ...)"
    downloads = (
        Download(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            "Audio_Speech_Actors_01-24.zip",
            checksum="md5:bc696df654c87fed845eb13823edef8a",
            size=208_468_073,
        ),
    )
    expected = Expected(
        emotions={emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()},
        speakers={f"{actor:02}": 60 for actor in range(1, 25)},
        rates=(48000,),
    )
    oddities: Mapping[str, str] = {one: f"released byte-identical to {other}" for one, other in (TWINS, TWINS[::-1])}
    same_audio = (TWINS,)

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``Actor_12/03-01-06-01-02-01-12.wav``: emotion 06, statement 02, actor 12 (even: a woman)."""
        match = GRAMMAR.fullmatch(relative.stem)
        if match is None:
            return None
        emotion, intensity, statement, actor = match.groups()
        if EMOTIONS[emotion] == "neutral" and intensity == "02":
            return None
        return Utterance(actor, "m" if int(actor) % 2 else "f", EMOTIONS[emotion], statement, "en")
