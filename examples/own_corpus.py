"""A corpus of one's own, in a file of one's own, beside metaser's.

metaser data verify examples/own_corpus.py:Esperanto      # reads $METASER_DATA/esperanto/v01-gxo-3.wav, ...
metaser run experiments/fmaml --variant 5shot \
    --set 'data.collections={mine: {corpora: [emodb, emovo, "examples/own_corpus.py:Esperanto"]}}' --set data.use=mine
"""

import re

from metaser.corpora.base import Corpus, Expected


class Esperanto(Corpus):
    """32 clips of acted Esperanto: 2 actors, 4 sentences, 4 emotions. It is made up."""

    name = "esperanto"  # of its folder below METASER_DATA
    title = "ESPERANTO"
    languages = ("eo",)
    licence = "CC0"
    home = "nowhere"
    access = "it is made up"
    grammar = re.compile(r"(?P<speaker>[vz]\d\d)-(?P<emotion>[a-z]{3})-(?P<text>\d)")
    emotions = {"gxo": "happiness", "kol": "anger", "tri": "sadness", "neu": "neutral"}
    genders = {"v01": "f", "z01": "m"}
    expected = Expected(emotions=dict.fromkeys(emotions.values(), 8), speakers={"v01": 16, "z01": 16}, rates=(16000,))
