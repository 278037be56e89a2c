"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al., Interspeech 2005): acted German."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Download, Expected, Utterance

#: Sentence codes are those of the paper; the letters are those of the German emotion words (W for Wut, ...).
GRAMMAR = re.compile(r"(03|08|09|1[0-6])(a0[12457]|b0[1239]|b10)([WLEAFTN])([a-f])")
EMOTIONS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
}  # fmt: skip
MEN = ("03", "10", "11", "12", "15")


class Emodb(Corpus):
    """535 clips: 10 speakers, 10 sentences, 7 emotions, in unequal numbers (the clips that listeners recognised)."""

    name = "emodb"
    title = "EMO-DB (Berlin)"
    languages = ("de",)
    licence = "CC0 (audEERING's copy)"
    home = "http://emodb.bilderbar.info"
    access = "fetch http://emodb.bilderbar.info/download/download.zip, which holds wav/03a01Fa.wav and so on"
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

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``wav/03a01Fa.wav``: speaker 03, sentence a01, emotion F, version a."""
        match = GRAMMAR.fullmatch(relative.stem)
        if match is None:
            return None
        speaker, sentence, emotion, _ = match.groups()
        return Utterance(speaker, "m" if speaker in MEN else "f", EMOTIONS[emotion], sentence, "de")
