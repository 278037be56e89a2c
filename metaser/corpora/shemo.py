"""ShEMO, the Sharif emotional speech database (Nezami et al., LRE 53, 2019): Persian radio plays."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Download, Expected, Utterance

#: Gender and number of the speaker, emotion, number of the clip.
GRAMMAR = re.compile(r"(([FM])[0-9]{2})([AFHNSW])[0-9]{2,3}")
EMOTIONS = {"A": "anger", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise"}


class Shemo(Corpus):
    """3000 clips of 87 speakers (31 women, 56 men), 6 emotions in very unequal numbers; the wording is not coded."""

    name = "shemo"
    title = "ShEMO"
    languages = ("fa",)
    licence = "academic use"
    home = "https://doi.org/10.1007/s10579-018-9427-x"
    access = (
        "its owners' repository, github.com/pariajm/sharif-emotional-speech-dataset, says where it is now; the archives on "
        "GitHub itself are dead stubs (female/F03S02.wav, male/M01A01.wav, ...)"
    )
    downloads = (
        Download("https://www.dropbox.com/s/4t6mep8mo4yf81f/female.zip?dl=1", "female.zip", into="female"),
        Download("https://www.dropbox.com/s/xfi3hi927yxixa9/male.zip?dl=1", "male.zip", into="male"),
    )
    expected = Expected(
        emotions={"anger": 1059, "fear": 38, "happiness": 201, "neutral": 1028, "sadness": 449, "surprise": 225},
        speakers=87,
        rates=(44100, 22050),
    )

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``female/F03S02.wav``: speaker F03 (a woman), emotion S, clip 02."""
        match = GRAMMAR.fullmatch(relative.stem)
        if match is None:
            return None
        speaker, gender, emotion = match.groups()
        return Utterance(speaker, gender.lower(), EMOTIONS[emotion], "", "fa")
