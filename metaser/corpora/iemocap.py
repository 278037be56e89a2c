"""IEMOCAP (Busso et al., Language Resources and Evaluation 42, 2008): American English dialogues, acted and improvised.

A clip's name says who speaks when; what the annotators agreed on is in the dialogue's label file. Turns on which they
did not agree (``xxx``) have no emotion and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from metaser.corpora.base import Corpus, Expected, Utterance
from metaser.corpora.files import files_below
from metaser.runtime.errors import UserError, nearest

LABEL = re.compile(r"\[[0-9.]+ - [0-9.]+\]\t(\S+)\t(\S+)\t\[.*\]\s*")
EMOTIONS = {
    "ang": "anger", "dis": "disgust", "exc": "excitement", "fea": "fear", "fru": "frustration", "hap": "happiness",
    "neu": "neutral", "oth": "other", "sad": "sadness", "sur": "surprise",
}  # fmt: skip
NO_AGREEMENT = "xxx"


class Iemocap(Corpus):
    """7532 turns with an agreed label (of 10039): 5 sessions of one woman and one man each, 10 emotions."""

    name = "iemocap"
    title = "IEMOCAP"
    languages = ("en",)
    licence = "USC's research licence"
    home = "Busso et al., Language Resources and Evaluation 42, 2008"
    access = (
        "request it from USC's SAIL by the form at https://sail.usc.edu/iemocap/ (Session1/sentences/wav/... and "
        "Session1/dialog/EmoEvaluation/*.txt)"
    )
    # Session and the actor with the motion-capture markers, dialogue, then the actor whose turn it is, turn.
    grammar = re.compile(r"(Ses0[1-5])[FM]_(impro[0-9]{2}[ab]?|script[0-9]{2}_[0-9][ab]?)_([FM])[0-9]{3}")
    expected = Expected(
        emotions={
            "anger": 1103, "disgust": 2, "excitement": 1041, "fear": 40, "frustration": 1849, "happiness": 595,
            "neutral": 1708, "other": 3, "sadness": 1084, "surprise": 107,
        },
        speakers=10,
        rates=(16000,),
    )  # fmt: skip

    def parse(self, relative: PurePosixPath) -> Utterance | None:
        """Reads ``.../Ses01F_impro04_M003.wav``: speaker Ses01M, dialogue impro04; `utterances` fills in the emotion."""
        match = self.grammar.fullmatch(relative.stem)
        return match and Utterance(match[1] + match[3], match[3].lower(), "", match[2], "en")

    def utterances(self, folder: Path) -> Iterator[tuple[PurePosixPath, Utterance | None]]:
        """As `Corpus.utterances`, with the emotions of the label files; turns without an agreed label are left out.

        Raises:
            UserError: also if there is no label file, or one cannot be read or has an unknown label.
        """
        labels = read_labels(folder)
        for relative, found in super().utterances(folder):
            if "dialog" in relative.parts:  # whole dialogues, not turns
                continue
            if found is None or relative.stem in labels:
                yield relative, found and replace(found, emotion=labels[relative.stem])


def read_labels(folder: Path) -> dict[str, str]:
    """The agreed emotion of every turn, by the turn's name, from ``dialog/EmoEvaluation/*.txt``.

    The folders below EmoEvaluation hold single annotators' opinions and are not read.

    Raises:
        UserError: naming the file, and the line for an unknown label.
    """
    below = files_below(folder, (".txt",))
    files = [folder / relative for relative in below if relative.match("dialog/EmoEvaluation/*.txt")]
    if not files:
        raise UserError(f"corpus iemocap: no label file Session*/dialog/EmoEvaluation/*.txt in {folder}; copy them too")
    labels = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: label file cannot be read ({error}); fetch it anew") from None
        for number, line in enumerate(lines, 1):
            match = LABEL.fullmatch(line)
            if match is None or match[2] == NO_AGREEMENT:
                continue
            if match[2] not in EMOTIONS:
                raise UserError(f"{file}, line {number}: unknown label '{match[2]}'; {nearest(match[2], EMOTIONS)}")
            labels[match[1]] = EMOTIONS[match[2]]
    return labels
