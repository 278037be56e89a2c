"""EmoFilm (Parada-Cabaleiro et al., Interspeech 2018): emotional scenes from films, in English, Italian and Spanish.

A scene may occur dubbed in several languages: "unseen language" is not "unseen scene" unless scenes are held out too.
That is why ``text`` is the scene, shared over languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from metaser.corpora.base import Corpus, Expected, Utterance
from metaser.corpora.files import files_below
from metaser.runtime.errors import UserError

LEGEND = "f_m_corpus_it_es_en_legend.xlsx"
SHEETS = ("female", "male")
#: What is read of a sheet, and more than the legend has: a sheet may say that it is as large as Excel allows.
ROWS, COLUMNS = 20_000, 50


class EmoFilm(Corpus):
    """1115 clips (343 en, 413 it, 359 es), 5 emotions, no neutral; the speakers are named in a spreadsheet."""

    name = "emofilm"
    title = "EmoFilm"
    languages = ("en", "it", "es")
    licence = "restricted; end-user licence agreement"
    home = "Zenodo record 7665999 (older: 1326428)"
    access = (
        "request it from its owners at https://zenodo.org/records/7665999, who have users sign an agreement "
        "(wav_corpus/f_ans001aen.wav, ...)"
    )
    # The speaker is in the legend: `utterances` fills it in.
    grammar = re.compile(r"(?P<text>(?P<gender>f|m)_(?P<emotion>[a-z]{3})[0-9]{3})[a-z](?P<language>en|it|es)")
    emotions = {"ans": "fear", "dis": "disgust", "gio": "happiness", "rab": "anger", "tri": "sadness"}
    expected = Expected(
        emotions={"anger": 232, "disgust": 168, "fear": 221, "happiness": 240, "sadness": 254},
        speakers=202,
        rates=(44100,),
    )

    def utterances(self, folder: Path) -> Iterator[tuple[PurePosixPath, Utterance | None]]:
        """As `Corpus.utterances`, with the speakers of the legend where it lies in the folder, else empty.

        Raises:
            UserError: also if the legend cannot be read.
        """
        legend = next((relative for relative in files_below(folder, (".xlsx",)) if relative.name == LEGEND), None)
        speakers = read_legend(folder / legend) if legend else {}
        for relative, found in super().utterances(folder):
            yield relative, found and replace(found, speaker=speakers.get(relative.stem, ""))


def read_legend(path: Path) -> dict[str, str]:
    """The speaker of every file, by the file's stem: lower case, single spaces; unknown ones ("????") are left out.

    Raises:
        UserError: naming the file, if it is no workbook, or lacks a sheet or a column.
    """
    import openpyxl  # only EmoFilm needs it, and only with its legend at hand

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = {
            name.strip().lower(): [
                row for row in book[name].iter_rows(1, ROWS, 1, COLUMNS, values_only=True) if any(row)
            ]
            for name in book.sheetnames
        }
    except Exception as error:  # whatever its zip and XML readers raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not readable as an Excel workbook ({reason}); fetch it anew") from None
    speakers = {}
    for sheet in SHEETS:
        if sheet not in sheets:
            raise UserError(f"{path}: no sheet '{sheet}'; the legend has the sheets {' and '.join(SHEETS)}")
        header, *rows = [[" ".join(str(cell or "").split()).lower() for cell in row] for row in sheets[sheet]] or [[]]
        for column in ("file", "speaker"):
            if column not in header:
                raise UserError(f"{path}: sheet '{sheet}' has no column '{column}'; it has file, speaker, film")
        for row in rows:
            stem, speaker = row[header.index("file")].removesuffix(".wav"), row[header.index("speaker")]
            if stem and speaker.strip("? "):
                speakers[stem] = speaker
    return speakers
