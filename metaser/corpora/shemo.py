"""ShEMO, the Sharif emotional speech database (Nezami et al., LRE 53, 2019): Persian radio plays."""

from __future__ import annotations

import re

from metaser.corpora.base import Corpus, Download, Expected


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
    grammar = re.compile(r"(?P<speaker>(?P<gender>[FM])[0-9]{2})(?P<emotion>[A-Z])[0-9]{2,3}")
    emotions = {"A": "anger", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise"}
    downloads = (
        Download("https://www.dropbox.com/s/4t6mep8mo4yf81f/female.zip?dl=1", "female.zip", into="female"),
        Download("https://www.dropbox.com/s/xfi3hi927yxixa9/male.zip?dl=1", "male.zip", into="male"),
    )
    expected = Expected(
        emotions={"anger": 1059, "fear": 38, "happiness": 201, "neutral": 1028, "sadness": 449, "surprise": 225},
        speakers=87,
        rates=(44100, 22050),
    )
