"""SAVEE, Surrey audio-visual expressed emotion (Haq & Jackson, AVSP 2009): acted British English, four men."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Expected, Utterance

SPEAKERS = ("DC", "JE", "JK", "KL")


class Savee(Corpus):
    """480 clips: per speaker 15 sentences for each of 6 emotions, and 30 neutral ones."""

    name = "savee"
    title = "SAVEE"
    languages = ("en",)
    licence = "research only"
    home = "Haq & Jackson, AVSP 2009 (University of Surrey)"
    access = (
        "register with its owners at the University of Surrey, http://kahlan.eps.surrey.ac.uk/savee/, and fetch AudioData.zip "
        "(AudioData/DC/a01.wav, ...)"
    )
    # Neutral has 30 sentences, the others 15.
    grammar = re.compile(
        r"(?:(?P<speaker>DC|JE|JK|KL)_)?"
        r"(?P<text>(?P<emotion>a|d|f|h|n|sa|su)(?:0[1-9]|1[0-5]|(?<=n)(?:1[6-9]|2[0-9]|30)))"
    )
    emotions = {
        "a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness", "su": "surprise",
    }  # fmt: skip
    expected = Expected(
        emotions=dict.fromkeys(emotions.values(), 60) | {"neutral": 120},
        speakers=dict.fromkeys(SPEAKERS, 120),
        rates=(44100,),
    )

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """As the grammar has it; the speaker is the folder (the owners' layout) or the prefix (flat copies)."""
        found = super().parse(relative)
        places = {place for place in (found.speaker if found else "", relative.parent.name) if place in SPEAKERS}
        if found is None or len(places) != 1:  # no speaker, or a prefix that contradicts the folder
            return None
        return replace(found, speaker=places.pop(), gender="m")

    def identity(self, relative: PurePosixPath) -> str:
        """Speaker and sentence, such as ``DC_a01``, in either layout."""
        utterance = self.parse(relative)
        return f"{utterance.speaker}_{utterance.text}" if utterance else relative.stem
