"""Made-up corpora in their owners' layouts, and names that fit them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import soundfile

#: Corpus, path in its owners' layout, what it says.
NAMES = [
    ("emodb", "wav/03a01Fa", ("03", "m", "happiness", "a01", "de")),
    ("emodb", "wav/16b10Lb", ("16", "f", "boredom", "b10", "de")),
    ("emodb", "wav/14a07Ac", ("14", "f", "fear", "a07", "de")),
    ("ravdess", "Actor_12/03-01-06-01-02-01-12", ("12", "f", "fear", "02", "en")),
    ("ravdess", "Actor_01/03-01-02-02-01-02-01", ("01", "m", "calm", "01", "en")),
    ("ravdess", "Actor_24/03-01-01-01-01-02-24", ("24", "f", "neutral", "01", "en")),
    ("tess", "OAF_Pleasant_surprise/OAF_back_ps", ("OAF", "f", "surprise", "back", "en")),
    ("tess", "YAF_angry/YAF_germ_angry", ("YAF", "f", "anger", "germ", "en")),
    ("tess", "OAF_neutral/OA_bite_neutral", ("OAF", "f", "neutral", "bite", "en")),
    ("savee", "AudioData/DC/a01", ("DC", "m", "anger", "a01", "en")),
    ("savee", "AudioData/KL/sa15", ("KL", "m", "sadness", "sa15", "en")),
    ("savee", "DC_su03", ("DC", "m", "surprise", "su03", "en")),
    ("savee", "ALL/JK_n30", ("JK", "m", "neutral", "n30", "en")),
    ("emovo", "f1/dis-f1-b1", ("f1", "f", "disgust", "b1", "it")),
    ("emovo", "m3/sor-m3-n5", ("m3", "m", "surprise", "n5", "it")),
    ("shemo", "female/F03S02", ("F03", "f", "sadness", "", "fa")),
    ("shemo", "male/M25W101", ("M25", "m", "surprise", "", "fa")),
    ("urdu", "Angry/SM1_F10_A010", ("SM1", "m", "anger", "", "ur")),
    ("urdu", "Happy/SF1_F4_H04", ("SF1", "f", "happiness", "", "ur")),
    ("urdu", "Neutral/SM5_F72_N0100", ("SM5", "m", "neutral", "", "ur")),
    ("emofilm", "wav_corpus/f_ans001aen", ("", "f", "fear", "f_ans001", "en")),
    ("emofilm", "wav_corpus/m_gio119ses", ("", "m", "happiness", "m_gio119", "es")),
    ("iemocap", "Session1/sentences/wav/Ses01F_impro04/Ses01F_impro04_M003", ("Ses01M", "m", "", "impro04", "en")),
    ("iemocap", "Ses05M_script01_1b_F012", ("Ses05F", "f", "", "script01_1b", "en")),
    ("iemocap", "Ses03M_impro08a_M012", ("Ses03M", "m", "", "impro08a", "en")),
]  # fmt: skip


def clip(path: Path, seed: int = 0, samples: int = 4000, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(samples), rate, subtype="PCM_16")


TEXTS = ("a01", "a02", "a04", "a05", "a07")


def emodb(root: Path, clips: int = 5) -> None:
    """A made-up EMO-DB: ``clips`` takes of each emotion by each of four speakers."""
    for speaker in ("03", "08", "09", "10"):
        for letter in "AEFLNTW":
            for take in range(clips):
                clip(root / "emodb" / "wav" / f"{speaker}{TEXTS[take % 5]}{letter}{'abcdef'[take // 5]}.wav", seed=take)


def emovo(root: Path, clips: int = 5) -> None:
    sentences = [
        f"{kind}{number}" for kind, most in (("b", 3), ("l", 4), ("n", 5), ("d", 2)) for number in range(1, most + 1)
    ]
    for speaker in ("f1", "f2", "m1", "m2"):
        for emotion in ("dis", "gio", "neu", "pau", "rab", "sor", "tri"):
            for sentence in sentences[:clips]:
                clip(root / "emovo" / speaker / f"{emotion}-{speaker}-{sentence}.wav")


def emofilm(root: Path, clips: int = 20) -> None:
    """A made-up EmoFilm with its legend; every language has speakers of its own and one clip of an unknown speaker."""
    book = openpyxl.Workbook()
    sheets = {"f": book.create_sheet("female"), "m": book.create_sheet("male")}
    for sheet in sheets.values():
        sheet.append(["file", "speaker", "film"])
    for language in ("en", "it", "es"):
        for emotion in ("ans", "dis", "gio", "rab", "tri"):
            for scene in range(clips):
                gender = "fm"[scene % 2]
                stem = f"{gender}_{emotion}{scene + 100 * ord(language[1]) % 800:03}a{language}"
                speaker = "????" if (emotion, scene) == ("ans", 0) else f"Actor {language} {scene % 5}"
                sheets[gender].append([stem, speaker, "a film"])
                clip(root / "emofilm" / "wav_corpus" / f"{stem}.wav")
    book.save(root / "emofilm" / "f_m_corpus_it_es_en_legend.xlsx")


SENTENCES = [
    *(f"b{i}" for i in (1, 2, 3)),
    *(f"l{i}" for i in (1, 2, 3, 4)),
    *(f"n{i}" for i in range(1, 6)),
    "d1",
    "d2",
]


def zipped(members: dict[str | zipfile.ZipInfo, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of files by name."""
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", packing) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return handle.getvalue()
