"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al., Interspeech 2005): acted German."""

from __future__ import annotations

import re

from metaser.corpora.base import Corpus, Download, Expected


class Emodb(Corpus):
    """535 clips: 10 speakers, 10 sentences, 7 emotions, in unequal numbers (the clips that listeners recognised)."""

    name = "emodb"
    title = "EMO-DB (Berlin)"
    languages = ("de",)
    licence = "CC0 (audEERING's copy)"
    home = "http://emodb.bilderbar.info"
    access = "fetch http://emodb.bilderbar.info/download/download.zip, which holds wav/03a01Fa.wav and so on"
    # Sentence codes are those of the paper; the letters are those of the German emotion words (W for Wut, ...).
    grammar = re.compile(r"(?P<speaker>03|08|09|1[0-6])(?P<text>a0[12457]|b0[1239]|b10)(?P<emotion>[A-Z])[a-f]")
    emotions = {
        "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
    }  # fmt: skip
    genders = dict.fromkeys(("03", "10", "11", "12", "15"), "m") | dict.fromkeys(("08", "09", "13", "14", "16"), "f")
    downloads = (Download("http://emodb.bilderbar.info/download/download.zip", "download.zip"),)
    expected = Expected(
        emotions={
            "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79, "sadness": 62,
        },
        speakers={
            "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
        },
        rates=(16000,),
    )  # fmt: skip
