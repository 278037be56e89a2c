"""TESS, the Toronto emotional speech set (Pichora-Fuller & Dupuis, 2010): acted Canadian English."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Download, Expected, Utterance


class Tess(Corpus):
    """2800 clips: two actresses (OAF, 64 years; YAF, 26 years), 200 words after "Say the word", 7 emotions."""

    name = "tess"
    title = "TESS (Toronto)"
    languages = ("en",)
    licence = "CC BY-NC-ND 4.0"
    home = "TSpace, handle 1807/24487"
    access = "fetch it from TSpace, handle 1807/24487 (OAF_angry/OAF_back_angry.wav, ...)"
    grammar = re.compile(r"(?P<speaker>OAF|YAF|OA)_(?P<text>[a-z]+)_(?P<emotion>[a-z]+)")
    emotions = {
        "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral",
        "ps": "surprise",  # pleasant surprise
        "sad": "sadness",
    }  # fmt: skip
    genders = {"OAF": "f", "YAF": "f", "OA": "f"}
    downloads = (
        Download(
            "https://huggingface.co/datasets/myleslinder/tess/resolve/main/data/tess.zip",  # a mirror
            "tess.zip",
            checksum="sha256:752556de8c109b1d27d163e2a00b0ec8b8186600fd233ab8bd369d003d3cb218",
            size=224_036_453,
        ),
    )
    expected = Expected(
        emotions=dict.fromkeys(emotions.values(), 400), speakers={"OAF": 1400, "YAF": 1400}, rates=(24414,)
    )
    oddities = {
        "OAF_food_fear": "released at 96000 Hz, where the other clips have 24414 Hz",
        "OA_bite_neutral": "released misspelt; it is read as OAF_bite_neutral",
    }

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """As the grammar has it; OA is a slip for OAF in one file of the release."""
        found = super().parse(relative)
        return replace(found, speaker="OAF") if found and found.speaker == "OA" else found
