"""SAVEE, Surrey audio-visual expressed emotion (Haq & Jackson, AVSP 2009): acted British English, four men."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Expected, Utterance

SPEAKERS = ("DC", "JE", "JK", "KL")
#: The speaker is the folder (the owners' layout) or the prefix (flat copies); neutral has 30 sentences, the others 15.
GRAMMAR = re.compile(r"(?:(DC|JE|JK|KL)_)?(n(?:0[1-9]|[12][0-9]|30)|(?:a|d|f|h|sa|su)(?:0[1-9]|1[0-5]))")
EMOTIONS = {
    "a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness", "su": "surprise",
}  # fmt: skip


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
    expected = Expected(
        emotions={emotion: 120 if emotion == "neutral" else 60 for emotion in EMOTIONS.values()},
        speakers=dict.fromkeys(SPEAKERS, 120),
        rates=(44100,),
    )

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``AudioData/DC/a01.wav`` or ``DC_a01.wav``: speaker DC, emotion a, its sentence 01."""
        match = GRAMMAR.fullmatch(relative.stem)
        if match is None:
            return None
        prefix, sentence = match.groups()
        places = {place for place in (prefix, relative.parent.name) if place in SPEAKERS}
        if len(places) != 1:  # no speaker, or a prefix that contradicts the folder
            return None
        return Utterance(places.pop(), "m", EMOTIONS[sentence[:-2]], sentence, "en")

    def identity(self, relative: PurePosixPath) -> str:
        """Speaker and sentence, such as ``DC_a01``, in either layout."""
        utterance = self.parse(relative)
        return f"{utterance.speaker}_{utterance.text}" if utterance else relative.stem
