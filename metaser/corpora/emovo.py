"""EMOVO (Costantini et al., LREC 2014): acted Italian."""

from __future__ import annotations

import re

from metaser.corpora.base import Corpus, Download, Expected


class Emovo(Corpus):
    """588 clips: 6 actors, 14 sentences (numbered within four kinds), 7 emotions."""

    name = "emovo"
    title = "EMOVO"
    languages = ("it",)
    licence = "CC BY-NC-SA 4.0 (as nkululeko lists it)"
    home = "Costantini et al., EMOVO Corpus, LREC 2014"
    access = "fetch it from Google Drive, id 1SUtaKeA-LYnKaD3qv87Y5wYgihJiNJAo (f1/dis-f1-b1.wav, ...)"
    grammar = re.compile(
        r"(?P<emotion>[a-z]{3})-(?P<speaker>(?P<gender>[fm])[123])-(?P<text>b[123]|l[1-4]|n[1-5]|d[12])"
    )
    emotions = {
        "dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear", "rab": "anger", "sor": "surprise",
        "tri": "sadness",
    }  # fmt: skip
    downloads = (
        Download(
            "https://drive.usercontent.google.com/download"
            "?id=1SUtaKeA-LYnKaD3qv87Y5wYgihJiNJAo&export=download&confirm=t",
            "emovo.zip",
        ),
    )
    expected = Expected(
        emotions=dict.fromkeys(emotions.values(), 84),
        speakers=dict.fromkeys(("f1", "f2", "f3", "m1", "m2", "m3"), 98),
        rates=(48000,),
    )
