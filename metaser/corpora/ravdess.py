"""RAVDESS, its audio-only speech (Livingstone & Russo, PLoS ONE 13, 2018): acted North American English."""

from __future__ import annotations

import re

from metaser.corpora.base import Corpus, Download, Expected

TWINS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")


class Ravdess(Corpus):
    """1440 clips: 24 actors, 2 statements, 8 emotions at 2 intensities (neutral at one), 2 repetitions."""

    name = "ravdess"
    title = "RAVDESS speech"
    languages = ("en",)
    licence = "CC BY-NC-SA 4.0"
    home = "Zenodo record 1188976"
    access = "fetch Audio_Speech_Actors_01-24.zip from Zenodo record 1188976 (Actor_01/03-01-01-01-01-01-01.wav, ...)"
    # Modality 03 (audio), channel 01 (speech), emotion, intensity (neutral has no strong one), statement, repetition, actor.
    grammar = re.compile(
        r"03-01-(?P<emotion>01(?=-01)|0[2-8])-0[12]-(?P<text>0[12])-0[12]-(?P<speaker>0[1-9]|1[0-9]|2[0-4])"
    )
    emotions = {
        "01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear", "07": "disgust",
        "08": "surprise",
    }  # fmt: skip
    genders = {f"{actor:02}": "m" if actor % 2 else "f" for actor in range(1, 25)}
    downloads = (
        Download(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            "Audio_Speech_Actors_01-24.zip",
            checksum="md5:bc696df654c87fed845eb13823edef8a",
            size=208_468_073,
        ),
    )
    expected = Expected(
        emotions=dict.fromkeys(emotions.values(), 192) | {"neutral": 96},
        speakers=dict.fromkeys(genders, 60),
        rates=(48000,),
    )
    oddities = {one: f"released byte-identical to {other}" for one, other in (TWINS, TWINS[::-1])}
    same_audio = (TWINS,)
