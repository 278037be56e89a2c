"""Every corpus's grammar and layout, on made-up trees; and the real corpora's counts where METASER_DATA names them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path, PurePosixPath

import numpy as np
import openpyxl
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from metaser.corpora import CORPORA, find
from metaser.corpora.audio import read_samples, read_waveform
from metaser.corpora.base import COLUMNS, EMOTIONS, Utterance
from metaser.corpora.emofilm import LEGEND
from metaser.corpora.files import files_below
from metaser.corpora.folder import Folder
from metaser.runtime.errors import UserError
from support import REPOSITORY
from support.corpora import NAMES
from support.limit import LIMIT

pytestmark = pytest.mark.quick

#: Names that nearly fit.
NEAR_MISSES = [
    ("emodb", "wav/07a01Fa"), ("emodb", "wav/03a03Fa"), ("emodb", "wav/03a01Xa"), ("emodb", "wav/03a01F"),
    ("emodb", "wav/03a01Fa (1)"), ("emodb", "wav/03b11Fa"),
    ("ravdess", "Actor_01/03-02-01-01-01-01-01"), ("ravdess", "Actor_01/01-01-01-01-01-01-01"),
    ("ravdess", "Actor_01/03-01-01-02-01-01-01"), ("ravdess", "Actor_01/03-01-09-01-01-01-01"),
    ("ravdess", "Actor_25/03-01-03-01-01-01-25"), ("ravdess", "Actor_01/03-01-03-01-03-01-01"),
    ("ravdess", "Actor_01/03-01-03-01-01-01-00"),
    ("tess", "OAF_back_calm"), ("tess", "OBF_back_angry"), ("tess", "YA_back_angry"), ("tess", "OAF__angry"),
    ("savee", "AudioData/DC/a16"), ("savee", "AudioData/DC/n31"), ("savee", "AudioData/DC/a00"),
    ("savee", "AudioData/XX/a01"), ("savee", "a01"), ("savee", "AudioData/JE/DC_a01"), ("savee", "AudioData/DC/s01"),
    ("emovo", "f1/dis-f4-b1"), ("emovo", "f1/dis-f1-b4"), ("emovo", "f1/ans-f1-b1"), ("emovo", "f1/dis-f1"),
    ("shemo", "female/X03S02"), ("shemo", "female/F03B02"), ("shemo", "female/F3S02"), ("shemo", "female/F03S2"),
    ("urdu", "Angry/SX1_F10_A010"), ("urdu", "Angry/SM1_F10_B010"), ("urdu", "Angry/SM1_A010"),
    ("emofilm", "f_ans001afr"), ("emofilm", "f_ans01aen"), ("emofilm", "x_ans001aen"), ("emofilm", "f_neu001aen"),
    ("emofilm", "f_ans001en"),
    ("iemocap", "Ses06F_impro04_M003"), ("iemocap", "Ses01F_impro04"), ("iemocap", "Ses01F_impro04_X003"),
    ("iemocap", "Ses01F_impro04_MXX3"), ("iemocap", "Ses01F_scene04_M003"),
]  # fmt: skip


def write(path: Path, rate: int = 16000, channels: int = 1, seed: int = 0) -> Path:
    """A twentieth of a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (rate // 20, channels))
    soundfile.write(path, noise, rate)
    return path


def parse(corpus: str, stem: str) -> Utterance | None:
    return find(corpus).parse(PurePosixPath(f"{stem}.wav"))


def fails(call, *words: object) -> None:
    """The call is a user's mistake, told in one line that has all the words in it."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message


# --- the registry and its facts ---


def test_the_nine_corpora_are_found_by_name_in_any_case():
    nine = {"emofilm", "emodb", "ravdess", "tess", "savee", "iemocap", "emovo", "shemo", "urdu"}
    assert nine <= set(CORPORA)
    assert all(find(name.upper()).name == name for name in nine)


def test_an_unknown_name_is_told_with_the_nearest():
    fails(lambda: find("emobd"), "'emobd'", "did you mean 'emodb'?")


def test_the_registry_imports_no_torch():
    code = "import sys, metaser.corpora; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=LIMIT).returncode == 0


@pytest.mark.parametrize(
    ("name", "total"),
    [("emofilm", 1115), ("emodb", 535), ("ravdess", 1440), ("tess", 2800), ("savee", 480), ("iemocap", 7532),
     ("emovo", 588), ("shemo", 3000), ("urdu", 400)],
)  # fmt: skip
def test_the_expected_counts_add_up(name, total):
    corpus = find(name)
    assert corpus.expected.total == total
    assert set(corpus.expected.emotions) <= set(EMOTIONS)
    if not isinstance(corpus.expected.speakers, int):
        assert sum(corpus.expected.speakers.values()) == total
    assert all((corpus.title, corpus.languages, corpus.licence, corpus.home, corpus.access))


@pytest.mark.parametrize("name", ["ravdess", "tess", "urdu"])
def test_listed_stems_fit_the_grammar_and_groups_are_disjoint(name):
    corpus = find(name)
    grouped = [stem for stems in corpus.same_audio for stem in stems]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) <= set(corpus.oddities)
    assert all(parse(name, stem) for stem in corpus.oddities)


# --- grammars ---


@pytest.mark.parametrize(("corpus", "stem", "said"), NAMES)
def test_a_name_says_what_it_says(corpus, stem, said):
    assert parse(corpus, stem) == Utterance(*said)
    assert find(corpus).parse(PurePosixPath(f"{stem}.flac")) == Utterance(*said)


@pytest.mark.parametrize(("corpus", "stem"), NEAR_MISSES)
def test_a_near_miss_is_not_read(corpus, stem):
    assert parse(corpus, stem) is None


STEMS = st.sampled_from([(corpus, stem) for corpus, stem, _ in NAMES])
FIXED_LENGTH = st.sampled_from(
    [(corpus, stem) for corpus, stem, _ in NAMES if corpus in ("emodb", "ravdess", "emovo", "emofilm")]
)


@given(STEMS, st.sampled_from(" .#()é٣\n"), st.data())
def test_a_foreign_character_anywhere_is_not_read(named, character, data):
    corpus, stem = named
    place = data.draw(st.integers(stem.rfind("/") + 1, len(stem)))
    assert parse(corpus, stem[:place] + character + stem[place:]) is None


@given(FIXED_LENGTH, st.data())
def test_a_lost_or_doubled_character_is_not_read(named, data):
    corpus, stem = named
    name = PurePosixPath(stem).name
    place = data.draw(st.integers(0, len(name) - 1))
    times = data.draw(st.sampled_from([0, 2]))
    assert parse(corpus, name[:place] + times * name[place] + name[place + 1 :]) is None


@given(STEMS.filter(lambda named: named[0] != "ravdess"))
def test_another_case_is_not_read(named):
    corpus, stem = named
    path = PurePosixPath(stem)
    assert parse(corpus, str(path.with_name(path.name.swapcase()))) is None


@given(st.sampled_from(list(find("emodb").expected.speakers)), st.sampled_from("WLEAFTN"), st.sampled_from("abcdef"))
def test_emodb_reads_every_combination(speaker, letter, version):
    found = parse("emodb", f"{speaker}b03{letter}{version}")
    assert found is not None
    assert (found.speaker, found.text) == (speaker, "b03")


@given(st.integers(1, 8), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 24))
def test_ravdess_reads_its_design_and_no_strong_neutral(emotion, intensity, statement, repetition, actor):
    found = parse("ravdess", f"03-01-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}-{actor:02}")
    assert (found is None) == (emotion == 1 and intensity == 2)
    if found is not None:
        assert found.gender == ("f" if actor % 2 == 0 else "m")
        assert int(found.speaker) == actor


# --- trees ---


def test_a_scan_is_a_sorted_table_with_the_misnamed_aside(tmp_path):
    write(tmp_path / "wav/08a01Fa.flac", channels=2)
    write(tmp_path / "wav/03a01Fa.WAV", rate=8000)
    write(tmp_path / "wav/._03a01Fa.wav")
    wrong = write(tmp_path / "wav/song.wav")
    scan = find("emodb").scan(tmp_path)
    assert list(scan.table.columns) == list(COLUMNS)
    assert [Path(path).name for path in scan.table["path"]] == ["03a01Fa.WAV", "08a01Fa.flac"]
    assert list(scan.table["group"]) == ["emodb/03a01Fa", "emodb/08a01Fa"]
    assert scan.misnamed == [wrong]


def test_an_empty_folder_is_told_with_where_to_get_the_corpus(tmp_path):
    write(tmp_path / "song.wav")
    fails(lambda: find("tess").table(tmp_path), "tess", tmp_path, "TSpace")
    (tmp_path / "song.wav").unlink()
    fails(lambda: find("tess").scan(tmp_path), "tess", tmp_path, "TSpace")


def test_clips_of_one_audio_are_in_one_group(tmp_path):
    for name in ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07", "03-01-03-01-01-01-07"):
        write(tmp_path / f"Actor_07/{name}.wav")
    groups = find("ravdess").scan(tmp_path).table.set_index("text")["group"]
    assert groups.loc["02"].nunique() == 1
    assert groups.nunique() == 2


def test_savee_layouts_agree(tmp_path):
    names = [("DC", "a01"), ("JE", "sa15"), ("KL", "n30")]
    for speaker, sentence in names:
        write(tmp_path / f"official/AudioData/{speaker}/{sentence}.wav")
        write(tmp_path / f"flat/{speaker}_{sentence}.wav")
    official, flat = (find("savee").scan(tmp_path / layout).table for layout in ("official", "flat"))
    columns = ["speaker", "gender", "emotion", "text"]
    assert official[columns].equals(flat[columns])
    assert len(flat) == len(names)


@pytest.mark.parametrize(
    ("corpus", "one", "two"),
    [("emovo", "EMOVO/f1/dis-f1-b1.wav", "f1/dis-f1-b1.wav"), ("emodb", "wav/03a01Fa.flac", "wav/03a01Fa.wav"),
     ("savee", "AudioData/DC/a01.wav", "DC_a01.wav"),
     ("ravdess", "Actor_07/03-01-03-01-02-01-07.wav", "b/03-01-03-01-02-01-07.wav")],
)  # fmt: skip
def test_a_clip_that_is_there_twice_is_refused(tmp_path, corpus, one, two):
    paths = write(tmp_path / one), write(tmp_path / two)
    scan = find(corpus).scan(tmp_path)
    assert scan.twice == [paths]
    assert scan.table["group"].nunique() == 1
    fails(lambda: find(corpus).table(tmp_path), *paths, "is there twice; remove one")
    paths[1].unlink()
    assert len(find(corpus).table(tmp_path)) == 1


def test_a_whole_second_copy_is_counted(tmp_path):
    for copy in ("", "EMOVO"):
        for sentence in ("b1", "b2", "b3"):
            write(tmp_path / copy / f"f1/dis-f1-{sentence}.wav")
    fails(lambda: find("emovo").table(tmp_path), "there twice", "and 2 more: `metaser data verify emovo`")


def test_equal_stems_of_two_recordings_are_no_copies(tmp_path):
    for speaker in ("DC", "JE"):
        write(tmp_path / f"savee/AudioData/{speaker}/a01.wav")
        write(tmp_path / f"mine/{speaker}/angry/1.wav")
    for corpus in (find("savee"), Folder("mine", tmp_path / "mine", "de")):
        table = corpus.table(tmp_path / corpus.name)
        assert table["group"].nunique() == len(table) == 2


def test_one_audio_in_two_formats_is_refused_in_ones_own_corpus(tmp_path):
    paths = write(tmp_path / "angry/1.flac"), write(tmp_path / "angry/1.wav")
    fails(lambda: Folder("mine", tmp_path, "de").table(tmp_path), *paths, "is there twice")
    (tmp_path / "list.csv").write_text("path,emotion\nangry/1.wav,sad\nangry/../angry/1.wav,sad\n")
    fails(lambda: Folder("mine", tmp_path / "list.csv", "de").table(tmp_path / "list.csv"), "row 3", "already in row 2")


def test_linked_folders_are_read_and_circles_end(tmp_path):
    folder = tmp_path / "emovo"
    write(folder / "m1/dis-m1-b1.wav")
    write(tmp_path / "elsewhere/dis-f1-b1.wav")
    (folder / "f1").symlink_to(tmp_path / "elsewhere")
    (folder / "a").symlink_to(folder / "m1")
    (folder / "m1/up").symlink_to(folder)
    (tmp_path / "elsewhere/self").symlink_to(tmp_path / "elsewhere")
    assert list(map(str, files_below(folder))) == ["f1/dis-f1-b1.wav", "m1/dis-m1-b1.wav"]


def test_pipes_are_no_clips_and_broken_links_are_told(tmp_path):
    folder = tmp_path / "f1"
    clip = write(folder / "dis-f1-b1.wav")
    os.mkfifo(folder / "dis-f1-b2.wav")
    (folder / "dis-f1-b3.wav").symlink_to(tmp_path / "gone.wav")
    (folder / "dis-f1-l1.wav").symlink_to(clip)
    assert [path.stem[-2:] for path in files_below(tmp_path)] == ["b1", "b3", "l1"]
    fails(lambda: read_samples(folder / "dis-f1-b3.wav"), f"{folder / 'dis-f1-b3.wav'}: no such file")


@pytest.fixture
def iemocap(tmp_path):
    """One session with a turn for each rule."""
    for turn in ("F000", "F001", "M000", "M001"):
        write(tmp_path / f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav")
    write(tmp_path / "Session1/dialog/wav/Ses01F_impro01.wav", channels=2)
    labels = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        "[10.01 - 11.39]\tSes01F_impro01_F001\txxx\t[2.5, 2.5, 2.5]\n\n"
        "[12.01 - 13.39]\tSes01F_impro01_M000\texc\t[2.5, 2.5, 2.5]\n"
    )
    (labels.parent / "._Ses01F_impro01.txt").write_bytes(b"\x00\xff\xfe")
    (labels.parent / "Categorical").mkdir()
    (labels.parent / "Categorical/Ses01F_impro01_e2.txt").write_text("Ses01F_impro01_M001 :Anger; ()\n")
    return tmp_path, labels


def test_iemocap_keeps_agreed_turns_only(iemocap):
    scan = find("iemocap").scan(iemocap[0])
    rows = scan.table[["speaker", "gender", "emotion", "text"]].to_numpy().tolist()
    assert rows == [["Ses01F", "f", "neutral", "impro01"], ["Ses01M", "m", "excitement", "impro01"]]
    assert scan.misnamed == []


def test_iemocap_finds_the_labels_of_linked_sessions(iemocap):
    folder = iemocap[0] / "linked"
    folder.mkdir()
    (folder / "Session1").symlink_to(iemocap[0] / "Session1")
    assert list(find("iemocap").scan(folder).table["emotion"]) == ["neutral", "excitement"]


def test_iemocap_lists_the_misnamed(iemocap):
    wrong = write(iemocap[0] / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_Fxx0.wav")
    assert find("iemocap").scan(iemocap[0]).misnamed == [wrong]


def test_iemocap_label_files_are_checked(iemocap):
    root, labels = iemocap
    labels.write_text(labels.read_text().replace("exc", "exx"))
    fails(lambda: find("iemocap").scan(root), labels, "line 9", "'exx'", "did you mean 'exc'?")
    labels.write_bytes(b"\xff\xfe\x00")
    fails(lambda: find("iemocap").scan(root), labels)
    labels.unlink()
    fails(lambda: find("iemocap").scan(root), root, "EmoEvaluation")


def legend(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_emofilm_takes_speakers_from_the_legend(tmp_path):
    for name in ("f_ans001aen", "f_ans001ait", "f_dis002bes", "m_rab003aen"):
        write(tmp_path / f"wav_corpus/{name}.wav")
    assert set(find("emofilm").scan(tmp_path).table["speaker"]) == {""}
    header = ["file", "Speaker ", "film"]
    women = [header, ["f_ans001aen.wav", "  Jane  DOE", "A"], ["F_ANS001ait", "jane doe ", "A"]]
    men = [header, ["m_rab003aen", "????", None], [None, None, None]]
    legend(tmp_path / LEGEND, {"Female": women, "male": men})
    table = find("emofilm").scan(tmp_path).table
    assert list(table["speaker"]) == ["jane doe", "jane doe", "", ""]
    assert list(table["text"]) == ["f_ans001", "f_ans001", "f_dis002", "m_rab003"]
    assert list(table["language"]) == ["en", "it", "es", "en"]


def test_a_broken_legend_is_told(tmp_path):
    write(tmp_path / "wav_corpus/f_ans001aen.wav")
    path = tmp_path / LEGEND
    path.write_text("not a workbook")
    fails(lambda: find("emofilm").scan(tmp_path), path, "workbook")
    legend(path, {"female": [["file", "speaker"]]})
    fails(lambda: find("emofilm").scan(tmp_path), path, "'male'")
    legend(path, {"female": [["file", "film"]], "male": []})
    fails(lambda: find("emofilm").scan(tmp_path), path, "'female'", "'speaker'")


# --- decoding ---


def sine(path: Path, rate: int, hertz: float, seconds: float = 2) -> Path:
    """A tone of amplitude 0.5."""
    soundfile.write(
        path, 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate), rate, subtype="FLOAT"
    )
    return path


@pytest.mark.parametrize("rate", [24414, 44101, 11027])
def test_rates_with_little_in_common_are_resampled_well_and_sparingly(tmp_path, rate):
    for hertz in (100, 1000, 4000):
        tracemalloc.start()
        wave = read_waveform(sine(tmp_path / "a.wav", rate, hertz), 16000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6
        assert wave.dtype == torch.float32
        assert len(wave) == -(-2 * rate * 16000 // rate)
        middle = wave[8000:24000].double().numpy()  # a second: its spectrum's lines are at whole Hz
        spectrum = np.abs(np.fft.rfft(middle)) / 8000
        assert spectrum.argmax() == hertz
        assert spectrum[hertz] == pytest.approx(0.5, rel=0.005)
        assert np.delete(spectrum, hertz).max() < 0.5 * 10 ** (-55 / 20)


def test_what_the_new_rate_cannot_hold_is_filtered_out(tmp_path):
    wave = read_waveform(sine(tmp_path / "a.wav", 24414, 9500), 16000)[100:-100]
    assert wave.abs().max() < 0.5 * 10 ** (-50 / 20)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_ordinary_rates_are_resampled_by_torchaudio(tmp_path, rate):
    path = write(tmp_path / "a.wav", rate)
    common = math.gcd(rate, 16000)
    resample = torchaudio.transforms.Resample(rate // common, 16000 // common)
    assert torch.equal(read_waveform(path, 16000), resample(torch.from_numpy(read_samples(path)[0])))


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2_000_000_000])
def test_a_rate_that_no_recording_has_is_told(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.full(10, 0.1), rate)
    fails(lambda: read_samples(tmp_path / "a.wav"), tmp_path / "a.wav", f"{rate} Hz", "1000 to 768000")


@pytest.mark.parametrize("name", [b"\xff.wav", b"it's.wav", "für.wav".encode()])
def test_any_name_that_a_file_can_have_is_read(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    os.rename(write(tmp_path / "a.wav"), path)
    assert read_samples(path)[1] == read_samples(str(path))[1] == 16000
    assert find("emodb").scan(tmp_path).misnamed == [path]
    path.write_bytes(b"no audio")
    with pytest.raises(UserError) as caught:
        read_samples(path)
    assert str(caught.value) == f"{path}: not readable as audio (Format not recognised); give a WAV or FLAC file"


def test_a_folder_named_as_a_clip_is_told(tmp_path):
    fails(lambda: read_samples(tmp_path), tmp_path, "not readable as audio (Is a directory)")


# --- a user's own clips ---


def test_a_tree_of_ones_own(tmp_path):
    for name in ("anna/Angry/1.wav", "anna/smug/2.wav", "happy/3.flac", "wut/4.wav"):
        write(tmp_path / name)
    wrong = [write(tmp_path / name) for name in ("anger/bob/5.wav", "carl/x/sad/6.wav", "loose.wav")]
    corpus = Folder("mine", tmp_path, "de", {"Wut": "anger"})
    scan = corpus.scan(corpus.folder(Path("/nowhere")))
    rows = scan.table[["speaker", "emotion", "language", "corpus"]].to_numpy().tolist()
    assert rows == [
        ["anna", "anger", "de", "mine"], ["anna", "smug", "de", "mine"], ["", "happiness", "de", "mine"],
        ["", "anger", "de", "mine"],
    ]  # fmt: skip
    assert scan.misnamed == wrong


def test_a_tree_without_emotions_is_told(tmp_path):
    write(tmp_path / "loose.wav")
    fails(lambda: Folder("mine", tmp_path, "de").table(tmp_path), "mine", tmp_path, "emotion/*.wav")
    fails(lambda: Folder("mine", tmp_path / "no", "de").scan(tmp_path / "no"), "mine", tmp_path / "no")


def test_a_csv_of_ones_own(tmp_path):
    write(tmp_path / "b.wav")
    write(tmp_path / "deep/a, b.wav")
    path = tmp_path / "list.csv"
    path.write_text('﻿Path, Emotion,gender,speaker,language\nb.wav,Joy,Female,s1,\n\n"deep/a, b.wav",smug,,,fr\n')
    table = Folder("mine", path, "de").scan(path).table
    assert table[["speaker", "gender", "emotion", "language", "text", "group"]].to_numpy().tolist() == [
        ["s1", "f", "happiness", "de", "", "mine/b"],
        ["", "", "smug", "fr", "", "mine/deep/a, b"],
    ]
    assert all(Path(clip).is_file() for clip in table["path"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["row 1", "'path'", "empty"]),
        (b"path,emotion\n", ["no row"]),
        (b"path;emotion\na.wav;sad\n", ["row 1", "'path'", "path;emotion"]),
        (b"path,speaker\na.wav,x\n", ["row 1", "'emotion'"]),
        (b"path,emotion\na.wav,sad\nb.wav,sad\n", ["row 3", "b.wav"]),
        (b"path,emotion\na.wav,\n", ["row 2", "no emotion"]),
        (b"path,emotion\n,sad\n", ["row 2", "no path"]),
        (b"path,emotion\na.wav,sad,x\n", ["row 2", "3 fields"]),
        (b"path,emotion\na.wav\n", ["row 2", "1 fields"]),
        (b"path,emotion\na.wav,sad\na.wav,happy\n", ["row 3", "row 2", "a.wav"]),
        (b"path,emotion,gender\na.wav,sad,x\n", ["row 2", "gender 'x'"]),
        (b"path,emotion\na.wav,w\xfctend\n", ["UTF-8"]),
        (b'path,emotion\n"a.wav"x,sad\n', ["row 2"]),
        (b"path,emotion\n" + b"x" * 5000 + b".wav,sad\n", ["row 2", "no file"]),
    ],
)
def test_a_bad_csv_is_told_with_its_row(tmp_path, content, words):
    write(tmp_path / "a.wav")
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    fails(lambda: Folder("mine", path, "de").scan(path), path, *words)


# --- the real corpora ---

DATA = os.environ.get("METASER_DATA", "")


def real(name: str):
    folder = find(name).folder(Path(DATA)) if os.path.isdir(DATA) else None
    if folder is None:
        pytest.skip(f"METASER_DATA names no folder with {name}")
    return find(name).scan(folder)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("emodb", {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79,
                   "sadness": 62}),
        ("emovo", dict.fromkeys(["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"], 84)),
        ("urdu", dict.fromkeys(["anger", "happiness", "neutral", "sadness"], 100)),
    ],
)  # fmt: skip
def test_a_whole_corpus_has_its_published_counts(name, counts):
    scan = real(name)
    assert scan.table["emotion"].value_counts().to_dict() == counts
    assert scan.misnamed == []
    speakers = find(name).expected.speakers
    found = scan.table["speaker"].value_counts().to_dict()
    assert (len(found) if isinstance(speakers, int) else found) == speakers


def test_urdu_speakers_give_their_emotion_away():
    table = real("urdu").table
    emotions = table.groupby("speaker")["emotion"].nunique()
    assert sorted(emotions[emotions > 1].index) == ["SM3", "SM5", "SM6"]


@pytest.mark.parametrize("name", ["ravdess", "tess"])
def test_a_corpus_that_may_be_a_subset_is_within_its_counts(name):
    scan = real(name)
    expected = find(name).expected
    assert scan.misnamed == []
    for emotion, count in scan.table["emotion"].value_counts().items():
        assert count <= expected.emotions[emotion]
    assert set(scan.table["speaker"]) == set(expected.speakers)
    if name == "tess" and len(scan.table) == 482:
        assert scan.table["speaker"].value_counts().to_dict() == {"OAF": 242, "YAF": 240}
        assert any("OA_bite_neutral" in path for path in scan.table["path"])
