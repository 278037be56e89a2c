"""EMOVO (Costantini et al., LREC 2014): acted Italian."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from metaser.corpora.base import Corpus, Download, Expected, Utterance

#: Emotion, speaker, sentence: 14 of them, numbered within four kinds.
GRAMMAR = re.compile(r"(dis|gio|neu|pau|rab|sor|tri)-([fm][123])-(b[123]|l[1-4]|n[1-5]|d[12])")
EMOTIONS = {
    "dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear", "rab": "anger", "sor": "surprise",
    "tri": "sadness",
}  # fmt: skip


class Emovo(Corpus):
    """588 clips: 6 actors, 14 sentences, 7 emotions."""

    name = "emovo"
    title = "EMOVO"
    languages = ("it",)
    licence = "CC BY-NC-SA 4.0 (as nkululeko lists it)"
    home = "Costantini et al., EMOVO Corpus, LREC 2014"
    access = "fetch it from Google Drive, id 1SUtaKeA-LYnKaD3qv87Y5wYgihJiNJAo (f1/dis-f1-b1.wav, ...)"
    downloads = (
        Download(
            "https://drive.usercontent.google.com/download"
            "?id=1SUtaKeA-LYnKaD3qv87Y5wYgihJiNJAo&export=download&confirm=t",
            "emovo.zip",
        ),
    )
    expected = Expected(
        emotions=dict.fromkeys(EMOTIONS.values(), 84),
        speakers=dict.fromkeys(("f1", "f2", "f3", "m1", "m2", "m3"), 98),
        rates=(48000,),
    )

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``f1/dis-f1-b1.wav``: emotion, speaker (f for a woman), sentence."""
        match = GRAMMAR.fullmatch(relative.stem)
        if match is None:
            return None
        emotion, speaker, sentence = match.groups()
        return Utterance(speaker, speaker[0], EMOTIONS[emotion], sentence, "it")
