"""`verify` finds what is broken, calls what the owners released by its name, and keeps quiet about whole corpora."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from metaser.cli.listing import verify_all
from metaser.corpora import find
from metaser.corpora.folder import Folder
from metaser.corpora.overlap import shared
from metaser.corpora.verify import BROKEN, KNOWN, NOTE, compare, inventory, verify
from metaser.runtime.errors import UserError
from support.corpora import SENTENCES

SEEDS = itertools.count()


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Noise that no other call returns, ``(samples, channels)``."""
    return np.random.default_rng(next(SEEDS)).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def write(path: Path, samples: np.ndarray | None = None, rate: int = 48000, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(0.01, rate) if samples is None else samples, rate, **options)
    return path


@pytest.fixture
def emovo(tmp_path):
    """A whole corpus: 588 clips, some stereo, some FLAC."""
    for place, (speaker, emotion, sentence) in enumerate(
        itertools.product(("f1", "f2", "f3", "m1", "m2", "m3"), find("emovo").emotions, SENTENCES)
    ):
        extension = "flac" if place % 7 == 0 else "wav"
        samples = noise(0.01, 48000, channels=2 if place % 5 == 0 else 1)
        write(tmp_path / f"{speaker}/{emotion}-{speaker}-{sentence}.{extension}", samples)
    return tmp_path


def levels(report, level: str) -> list[str]:
    assert all("\n" not in str(finding) for finding in report.findings)
    return [finding.text for finding in report.findings if finding.level == level]


def broken(corpus: str, folder: Path) -> str:
    """The only broken finding."""
    report = verify(find(corpus), folder)
    (text,) = levels(report, BROKEN)
    assert not report.ok
    return text


def test_a_whole_corpus_has_no_findings(emovo):
    seen = []
    report = verify(find("emovo"), emovo, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert report.findings == []
    assert report.ok
    assert report.clips == 588
    assert report.counts["emotion"] == dict.fromkeys(sorted(find("emovo").emotions.values()), (84, 84))
    assert report.counts["speaker"]["m3"] == (98, 98)
    assert seen == [(done, 588) for done in range(1, 589)]


def test_one_clip_more_than_the_release_is_broken(emovo):
    write(emovo / "copies/dis-f1-b1.wav")
    texts = levels(verify(find("emovo"), emovo), BROKEN)
    assert texts[0] == "copies/dis-f1-b1.wav = f1/dis-f1-b1.flac: the same clip is there twice; remove one"
    assert [text.split(": ")[0] for text in texts[1:]] == ["emotion disgust", "speaker f1"]
    assert "85" in texts[1]
    assert "99" in texts[2]


def test_a_second_copy_is_told_once_for_each_clip(tmp_path):
    samples = [noise(0.01, 48000) for _ in range(3)]
    for copy in ("", "EMOVO"):
        for sentence, wave in zip(SENTENCES, samples, strict=False):
            write(tmp_path / copy / f"f1/dis-f1-{sentence}.wav", wave)
    assert levels(verify(find("emovo"), tmp_path), BROKEN) == [
        f"EMOVO/f1/dis-f1-{sentence}.wav = f1/dis-f1-{sentence}.wav: the same clip is there twice; remove one"
        for sentence in SENTENCES[:3]
    ]


def test_a_subset_is_noted_with_its_counts(tmp_path):
    write(tmp_path / "f1/dis-f1-b1.wav")
    write(tmp_path / "f2/gio-f2-b1.wav")
    report = verify(find("emovo"), tmp_path)
    notes = levels(report, NOTE)
    assert report.ok
    assert any("disgust 1/84" in text and "happiness 1/84" in text for text in notes)
    assert any("anger, fear, neutral, sadness, surprise" in text for text in notes)
    assert any("2 of the release's 588 clips" in text for text in notes)
    assert report.counts["emotion"]["anger"] == (0, 84)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not readable"), (b"<html>not found</html>" * 9, "not readable")],
    ids=["empty", "html"],
)
def test_a_file_that_is_no_audio_is_broken(tmp_path, content, reason):
    write(tmp_path / "f1/dis-f1-b1.wav")
    (tmp_path / "f1/dis-f1-b2.wav").write_bytes(content)
    text = broken("emovo", tmp_path)
    assert text.startswith("f1/dis-f1-b2.wav: ")
    assert reason in text


@pytest.mark.parametrize(
    ("samples", "reason"),
    [(np.zeros(0), "no samples"), (np.zeros(480), "silence"), (np.array([0.1, np.nan]), "NaN"),
     (np.array([0.1, np.inf]), "NaN or infinite")],
    ids=["no samples", "silence", "nan", "inf"],
)  # fmt: skip
def test_a_clip_without_usable_samples_is_broken(tmp_path, samples, reason):
    write(tmp_path / "f1/dis-f1-b1.wav")
    write(tmp_path / "f1/dis-f1-b2.wav", samples, subtype="FLOAT")
    text = broken("emovo", tmp_path)
    assert text.startswith("f1/dis-f1-b2.wav: ")
    assert reason in text


def test_a_cut_off_flac_is_broken(tmp_path):
    write(tmp_path / "f1/dis-f1-b1.flac")
    path = write(tmp_path / "f1/dis-f1-b2.flac", noise(1, 48000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert broken("emovo", tmp_path).startswith("f1/dis-f1-b2.flac: not readable")


def test_a_misnamed_clip_is_broken(tmp_path):
    write(tmp_path / "f1/dis-f1-b1.wav")
    write(tmp_path / "f1/dis-f1-b1 (1).wav")
    assert broken("emovo", tmp_path) == "f1/dis-f1-b1 (1).wav: not named as EMOVO names its clips"


def test_misnamed_clips_are_told_though_none_is_named_well(tmp_path):
    for name in ("b.wav", "a.wav"):
        write(tmp_path / name)
    report = verify(find("emovo"), tmp_path)
    assert report.clips == 0
    assert levels(report, BROKEN) == [f"{name}: not named as EMOVO names its clips" for name in ("a.wav", "b.wav")]
    (holding,) = inventory(tmp_path.parent, [Folder("mine", tmp_path, "de")])
    assert "no clip" in holding.problem


def test_a_pipe_does_not_block(tmp_path):
    write(tmp_path / "f1/dis-f1-b1.wav")
    os.mkfifo(tmp_path / "f1/dis-f1-b2.wav")
    assert verify(find("emovo"), tmp_path).ok


def test_a_broken_link_is_broken(tmp_path):
    write(tmp_path / "f1/dis-f1-b1.wav")
    (tmp_path / "f1/dis-f1-b2.wav").symlink_to(tmp_path / "gone.wav")
    assert broken("emovo", tmp_path) == "f1/dis-f1-b2.wav: no such file"


def test_a_sample_rate_that_no_recording_has_is_broken(tmp_path):
    write(tmp_path / "Angry/SM1_F1_A01.wav")
    write(tmp_path / "Angry/SM1_F2_A02.wav", noise(1, 1000), rate=1)
    assert broken("urdu", tmp_path).startswith("Angry/SM1_F2_A02.wav: has a sample rate of 1 Hz")


def test_all_corpora_are_verified_whatever_the_first_ones_hold(tmp_path, capsys):
    (tmp_path / "emodb").mkdir()
    (tmp_path / "synthetic").mkdir()  # a generated corpus is not looked for here
    write(tmp_path / "emovo/f1/dis-f1-b1.wav")
    assert not verify_all([], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"emodb: BROKEN: no clip in {tmp_path / 'emodb'} is named as")
    assert lines[1] == f"emovo: 1 clips in {tmp_path / 'emovo'}: nothing broken"
    assert not any(line.startswith("synthetic") for line in lines)
    with pytest.raises(UserError, match=r"corpus emodb: no clip"):
        verify_all(["emovo", "emodb"], tmp_path)


def test_an_odd_rate_is_broken_and_a_resampled_copy_noted(tmp_path):
    for sentence in SENTENCES[:3]:
        write(tmp_path / f"f1/dis-f1-{sentence}.wav", rate=16000)
    notes = levels(verify(find("emovo"), tmp_path), NOTE)
    assert any("16000 Hz, the release has 48000 Hz" in text for text in notes)
    write(tmp_path / "f1/dis-f1-d1.wav", rate=22050)
    assert broken("emovo", tmp_path) == "f1/dis-f1-d1.wav: 22050 Hz, where most clips have 16000 Hz"


def test_rates_that_the_release_mixes_are_not_odd(tmp_path):
    for number, rate in enumerate((44100, 44100, 22050)):
        write(tmp_path / f"female/F01A0{number}.wav", rate=rate)
    assert verify(find("shemo"), tmp_path).ok
    write(tmp_path / "female/F01A09.wav", rate=16000)
    assert broken("shemo", tmp_path).startswith("female/F01A09.wav: 16000 Hz")


def test_equal_audio_is_broken_whatever_its_container(tmp_path):
    samples = (noise(0.01, 48000) * 2**15).astype(np.int16)
    write(tmp_path / "f1/dis-f1-b1.wav", samples)
    write(tmp_path / "m1/gio-m1-b2.flac", samples)
    write(tmp_path / "m1/gio-m1-b3.wav", samples[:-1])
    assert broken("emovo", tmp_path) == "f1/dis-f1-b1.wav = m1/gio-m1-b2.flac: the same audio, sample for sample"


TWINS = ("Actor_07/03-01-03-01-02-01-07.wav", "Actor_07/03-01-03-01-02-02-07.wav")


def test_ravdess_twins_are_known(tmp_path):
    samples = noise(0.01, 48000)
    for name in TWINS:
        write(tmp_path / name, samples)
    report = verify(find("ravdess"), tmp_path)
    assert levels(report, KNOWN) == [f"{TWINS[0]} = {TWINS[1]}: the same audio, sample for sample"]
    assert report.ok


@pytest.mark.parametrize("third", ["Actor_08/03-01-03-01-02-01-08.wav", f"copy/{TWINS[0]}"])
def test_a_third_with_the_twins_audio_is_broken(tmp_path, third):
    samples = noise(0.01, 48000)
    for name in (*TWINS, third):
        write(tmp_path / name, samples)
    texts = levels(verify(find("ravdess"), tmp_path), BROKEN)
    assert any(third in text and "the same audio" in text for text in texts)


def test_tess_oddities_are_known_but_only_those(tmp_path):
    for word in ("back", "bar", "base"):
        write(tmp_path / f"OAF_fear/OAF_{word}_fear.wav", rate=24414)
    write(tmp_path / "OAF_fear/OAF_food_fear.wav", rate=96000)
    write(tmp_path / "OAF_neutral/OA_bite_neutral.wav", rate=24414)
    report = verify(find("tess"), tmp_path)
    known = levels(report, KNOWN)
    assert report.ok
    assert len(known) == 2
    assert known[0] == "OAF_fear/OAF_food_fear.wav: 96000 Hz, where most clips have 24414 Hz"
    assert known[1].startswith("OAF_neutral/OA_bite_neutral.wav: ")
    assert "misspelt" in known[1]
    write(tmp_path / "YAF_fear/YAF_food_fear.wav", rate=96000)
    assert broken("tess", tmp_path).startswith("YAF_fear/YAF_food_fear.wav: 96000 Hz")


@pytest.mark.parametrize(
    ("corpus", "odd", "others"),
    [("tess", "OAF_neutral/OA_bite_neutral", ("OAF_fear/OAF_bar_fear", "OAF_fear/OAF_base_fear")),
     ("urdu", "Happy/SF1_F4_H04", ("Happy/SF1_F5_H05", "Happy/SF1_F6_H06"))],
)  # fmt: skip
def test_a_known_file_that_is_odd_in_another_way_is_broken(tmp_path, corpus, odd, others):
    for name in others:
        write(tmp_path / f"{name}.wav", rate=24414)
    write(tmp_path / f"{odd}.wav", rate=96000)
    assert broken(corpus, tmp_path) == f"{odd}.wav: 96000 Hz, where most clips have 24414 Hz"


def test_a_known_file_that_cannot_be_read_is_broken(tmp_path):
    write(tmp_path / "OAF_fear/OAF_back_fear.wav", rate=24414)
    (tmp_path / "OAF_fear/OAF_food_fear.wav").write_bytes(b"")
    assert broken("tess", tmp_path).startswith("OAF_fear/OAF_food_fear.wav: not readable")


def test_findings_do_not_depend_on_the_number_of_workers(tmp_path):
    for sentence in SENTENCES:
        (write(tmp_path / f"f1/dis-f1-{sentence}.wav")).write_bytes(b"")
    write(tmp_path / "f1/gio-f1-b1.wav")
    one, four = (verify(find("emovo"), tmp_path, workers=workers) for workers in (1, 4))
    assert one == four
    assert len(levels(one, BROKEN)) == len(SENTENCES)


def test_no_clip_that_can_be_read_still_gives_a_report(tmp_path):
    (tmp_path / "Angry").mkdir()
    (tmp_path / "Angry/SM1_F1_A01.wav").write_bytes(b"")
    assert broken("urdu", tmp_path).startswith("Angry/SM1_F1_A01.wav: ")


# --- overlapping audio ---


def test_overlapping_clips_are_known_or_broken(tmp_path):
    show = noise(7, 16000)
    cuts = {"Sad/SM24_F2_S014": (0, 2), "Sad/SM24_F3_S015": (1.2, 3.2),  # listed
            "Sad/SM24_F9_S021": (3.5, 5.5), "Happy/SM7_F1_H01": (5.0, 7.0)}  # not listed as a pair  # fmt: skip
    for name, (start, stop) in cuts.items():
        write(tmp_path / f"{name}.wav", show[round(start * 16000) : round(stop * 16000)], rate=16000)
    report = verify(find("urdu"), tmp_path)
    known = [text for text in levels(report, KNOWN) if "audio in common" in text and "=" in text]
    assert known == ["Sad/SM24_F2_S014.wav = Sad/SM24_F3_S015.wav: 0.80 s of audio in common"]
    assert levels(report, BROKEN) == ["Happy/SM7_F1_H01.wav = Sad/SM24_F9_S021.wav: 0.50 s of audio in common"]


def test_overlaps_are_found_across_sample_rates_and_levels(tmp_path):
    show = np.convolve(noise(4, 44100)[:, 0], np.ones(64) / 64)  # dull, as speech is, so that half the rate will do
    write(tmp_path / "Sad/SM24_F2_S014.wav", show[: 3 * 44100], rate=44100)
    write(tmp_path / "Sad/SM25_F1_S051.wav", 3 * show[44100:][::2], rate=22050)
    write(tmp_path / "Sad/SM25_F2_S052.wav", noise(2, 44100), rate=44100)
    texts = levels(verify(find("urdu"), tmp_path), BROKEN)
    assert [text for text in texts if "in common" in text] == [
        "Sad/SM24_F2_S014.wav = Sad/SM25_F1_S051.wav: 2.00 s of audio in common"
    ]


@given(st.integers(30, 60), st.integers(30, 60), st.integers(0, 2**32 - 1), st.integers(-35, 35))
def test_shared_agrees_with_a_plain_loop(first, second, seed, shift):
    rate, shortest = 40, 10
    generator = np.random.default_rng(seed)
    show = generator.standard_normal(200)
    one, two = show[70 : 70 + first], show[70 + shift : 70 + shift + second]
    one, two = one - one.mean(), two - two.mean()
    best, seconds = -1.0, 0.0
    for offset in range(-first, second + 1):  # sample t of one lies on t + offset of two
        start, stop = max(0, -offset), min(first, second - offset)
        if stop - start >= shortest:
            a, b = one[start:stop], two[start + offset : stop + offset]
            value = a @ b / np.sqrt((a @ a) * (b @ b))
            best, seconds = (value, (stop - start) / rate) if value > best else (best, seconds)
    assert shared(one, two, rate, best - 1e-6) == pytest.approx(seconds)
    assert shared(one, two, rate, best + 1e-6) == 0


# --- counts, a user's own corpus, the inventory ---


@given(st.lists(st.sampled_from(["a", "b", ""])), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_compare_counts_all_names_but_the_empty_one(found, expected):
    counts = compare(found, expected)
    assert set(counts) == ({*found} - {""}) | set(expected)
    for name, (clips, wanted) in counts.items():
        assert clips == found.count(name)
        assert wanted == expected.get(name)


def test_ones_own_corpus_is_checked_without_counts(tmp_path):
    write(tmp_path / "anna/smug/1.wav")
    report = verify(Folder("mine", tmp_path, "de"), tmp_path)
    assert report.findings == []
    assert report.counts == {"emotion": {"smug": (1, None)}, "speaker": {"anna": (1, None)}}


def test_the_inventory_says_what_is_there(tmp_path):
    write(tmp_path / "EMOVO/f1/dis-f1-b1.wav")
    (tmp_path / "tess").mkdir()
    corpora = [find(name) for name in ("emovo", "tess", "savee")]
    emovo, tess, savee = inventory(tmp_path, corpora)
    assert (emovo.corpus.name, emovo.folder, emovo.clips, emovo.problem) == ("emovo", tmp_path / "EMOVO", 1, "")
    assert tess.clips == 0
    assert str(tmp_path / "tess") in tess.problem
    assert (savee.folder, savee.clips, savee.problem) == (None, 0, "")
    assert [holding.folder for holding in inventory(None, corpora)] == [None, None, None]


def test_a_folder_without_the_corpus_is_told(tmp_path):
    with pytest.raises(UserError, match=r"emovo.*no clip"):
        verify(find("emovo"), tmp_path)


# --- the real corpora ---

DATA = os.environ.get("METASER_DATA", "")


def real(name: str):
    folder = find(name).folder(Path(DATA)) if os.path.isdir(DATA) else None
    if folder is None:
        pytest.skip(f"METASER_DATA names no folder with {name}")
    return verify(find(name), folder)


@pytest.mark.parametrize("name", ["emodb", "emovo"])
def test_real_corpora_without_oddities(name):
    report = real(name)
    assert levels(report, BROKEN) == levels(report, KNOWN) == []


def known(report) -> set[frozenset[str]]:
    """The stems of every known finding; nothing is broken."""
    assert levels(report, BROKEN) == []
    return {frozenset(path.stem for path in found.paths) for found in report.findings if found.level == KNOWN}


def test_real_tess_has_its_two_odd_files():
    assert known(real("tess")) == {frozenset({"OAF_food_fear"}), frozenset({"OA_bite_neutral"})}


def test_real_ravdess_has_its_twins():
    assert known(real("ravdess")) == {frozenset(Path(name).stem for name in TWINS)}


def test_real_urdu_has_its_eleven_overlaps():
    pairs = known(real("urdu"))
    assert len(pairs) == 11
    assert {
        frozenset({"SF1_F4_H04", "SF4_F3_H019"}), frozenset({"SM25_F8_S058", "SM25_F9_S059"}),
        frozenset({"SM24_F14_S026", "SM24_F15_S027"}), frozenset({"SF6_F10_H034", "SF6_F5_H029"}),
    } <= pairs  # fmt: skip
