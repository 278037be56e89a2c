"""What cost a new user the first hour: training on what is there, paths as text, skipped files, bad files, dropped classes."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner, Result

import metaser
from metaser import cli
from metaser.adaptation import Model
from metaser.adaptation.answers import Answers
from metaser.adaptation.sound import SILENT, TOO_SHORT, Span, note
from metaser.corpora.folder import Folder, clips_below, decodable
from metaser.runtime.errors import UserError
from support import REPOSITORY

ADAPT = REPOSITORY / "experiments" / "adapt"
RATE = 16000
PITCH = {"anger": 400, "happiness": 250, "sadness": 120, "awe": 700}
KNOWN = ("anger", "happiness", "sadness")


def tone(emotion: str, number: int, seconds: float = 0.4) -> np.ndarray:
    """A buzz of the emotion's pitch, with noise."""
    rng, time = np.random.default_rng(number), np.arange(int(seconds * RATE)) / RATE
    pitch = PITCH[emotion] * (1 + 0.02 * rng.normal())
    return sum(0.2 / n * np.sin(2 * np.pi * n * pitch * time) for n in range(1, 6)) + 0.01 * rng.normal(size=len(time))


def clips(folder: Path, emotions: tuple[str, ...], count: int, start: int = 0, speaker: str = "") -> Path:
    for emotion in emotions:
        place = folder / speaker / emotion
        place.mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            soundfile.write(place / f"{number}.wav", tone(emotion, number), RATE)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


SHAPE = [
    f"data.emotions=[{', '.join(KNOWN)}]", "tasks.ways=3", "tasks.shots=2", "tasks.queries=2", "evaluation.queries=2",
    "evaluation.min_queries=1", "algorithms.gaussian.gaussian={own: 0.3, shrinkage: 0.5, prior: 10, temperature: 0.1}",
]  # fmt: skip


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of two languages with three emotions."""
    folder = tmp_path_factory.mktemp("speech")
    for place, language in enumerate(("aa", "bb")):
        for speaker in ("s1", "s2"):
            clips(folder / language, KNOWN, 3, 100 * place + 10 * int(speaker[1]), speaker)
    corpora = ", ".join(f"{{name: {name}, path: {folder / name}, language: {name}}}" for name in ("aa", "bb"))
    return [f"data.collections={{own: {{corpora: [{corpora}]}}}}", *SHAPE]


@pytest.fixture(scope="module")
def trained(speech: list[str], tmp_path_factory: pytest.TempPathFactory) -> Model:
    return metaser.train(tmp_path_factory.mktemp("model") / "m.safetensors", settings=speech)


@pytest.fixture(scope="module")
def adapted(trained: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained.adapt(clips(tmp_path_factory.mktemp("labelled"), ("anger", "sadness", "awe"), 2, 500))


@pytest.fixture(scope="module")
def mine(adapted: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "mine.safetensors"
    adapted.save(path)
    return path


# What predict takes


def test_one_path_a_folder_and_a_list_are_taken(adapted: Model, tmp_path: Path) -> None:
    folder = clips(tmp_path / "new", ("anger", "awe"), 1, 900)
    one = folder / "awe" / "900.wav"
    assert list(adapted.predict(str(one)).table()["clip"]) == [str(one)]
    pd.testing.assert_frame_equal(adapted.predict(one).table(), adapted.predict([one]).table())
    found = adapted.predict(folder).table()
    assert list(found["label"]) == ["anger", "awe"]
    pd.testing.assert_frame_equal(found, adapted.predict([folder, one]).table())
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: holds no clip"):
        adapted.predict(tmp_path / "none")


# Folders


@pytest.mark.parametrize("extension", [name for name in decodable() if name not in (".aif", ".oga")])
def test_clips_in_every_format_that_can_be_decoded_are_answered(adapted: Model, tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    how = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", None), ".aiff": ("AIFF", None)}
    kind, subtype = how.get(extension, (None, None))
    soundfile.write(path, tone("awe", 800, 1.0), RATE, format=kind, subtype=subtype)
    table = adapted.predict(tmp_path).table()
    assert list(table["label"]) == ["awe"], table
    assert list(table["note"]) == [""]


def test_the_formats_that_users_have_are_decoded() -> None:
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3"} <= set(decodable())


def test_files_that_are_skipped_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clips(tmp_path / "mine", ("anger",), 2)
    for name in ("a.m4a", "notes.txt", "anger/.hidden.wav", "anger/cover.jpg", ".git/x.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    os.mkfifo(folder / "pipe.wav")
    assert [path.name for path in clips_below(folder)] == ["0.wav", "1.wav"]
    said = capsys.readouterr().err
    assert said.startswith(f"metaser: {folder}: skipped 6 that are hidden or not .wav, ")
    assert said.endswith(": .git, a.m4a, anger/.hidden.wav and 3 more\n")
    assert len(Folder("mine", folder, "de").table(folder)) == 2
    assert "skipped 6" in capsys.readouterr().err


def test_clips_to_adapt_to_may_be_ogg(trained: Model, tmp_path: Path) -> None:
    for emotion in ("anger", "sadness"):
        for number in range(2):
            path = tmp_path / emotion / f"{number}.ogg"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, tone(emotion, number), RATE)
    assert trained.adapt(tmp_path).facts.answers == ("anger", "sadness")


@pytest.mark.parametrize("how", ["--csv", "--json", ""])
def test_one_bad_file_fails_alone(mine: Path, tmp_path: Path, how: str) -> None:
    folder = clips(tmp_path / "new", ("anger", "awe"), 1, 900)
    (folder / "bad.wav").write_bytes(b"RIFF")
    done = run("predict", mine, folder, *([how] if how else []))
    assert done.exit_code == 1
    assert f"metaser: {folder / 'bad.wav'}: not readable as audio" in done.stderr
    if how == "--csv":
        table = pd.read_csv(io.StringIO(done.stdout))
        assert list(table["label"].fillna("")) == ["anger", "awe", ""]
        assert table["note"][2].startswith("not readable as audio")
        assert table.filter(like="p_").iloc[2].isna().all()
    elif how == "--json":
        *good, bad = json.loads(done.stdout)
        assert [row["label"] for row in good] == ["anger", "awe"]
        assert bad["label"] is None
        assert bad["note"].startswith("not readable as audio")
        assert set(bad["probabilities"].values()) == {None}
    else:
        assert "bad.wav" in done.stdout


def test_all_bad_files_are_named(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    done = run("predict", mine, tmp_path / "a.wav", tmp_path / "b.m4a")
    assert done.exit_code == 1
    assert "a.wav: not readable" in done.stderr
    assert "b.m4a: no such file" in done.stderr


# No answer where there is no speech


def test_silence_and_scraps_get_a_note_and_no_label(adapted: Model, tmp_path: Path) -> None:
    speech = tone("anger", 1, 1.0)
    sounds = {
        "silence": np.zeros(RATE),
        "offset": np.full(RATE, 0.5),
        "scrap": speech[:800],
        "speech": speech,
        "quiet": 0.01 * speech,
    }
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    table = adapted.predict(tmp_path).table().set_index("clip")
    found = {Path(clip).stem: row for clip, row in table.to_dict("index").items()}
    assert {name: row["note"] for name, row in found.items()} == {
        "silence": SILENT, "offset": SILENT, "scrap": TOO_SHORT, "speech": "", "quiet": ""}  # fmt: skip
    assert found["silence"]["label"] == found["scrap"]["label"] == ""
    assert np.isnan(found["silence"]["probability"])
    assert found["speech"]["label"] == "anger"
    alone = adapted.predict(tmp_path / "speech.wav").table()
    assert alone["p_anger"][0] == found["speech"]["p_anger"], "clips without an answer do not touch the others"


def test_silent_windows_do_not_count_for_their_clip(adapted: Model, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([tone("anger", 1, 2.0), np.zeros(2 * RATE)]), RATE)
    answers = adapted.predict(path, window=1, hop=1)
    assert list(answers.windows()["note"]) == ["", "", SILENT, SILENT]
    (row,) = answers.table().to_dict("records")
    assert (row["label"], row["note"]) == ("anger", "")
    assert row["p_anger"] == pytest.approx(answers.windows()["p_anger"][:2].mean())


def test_a_model_that_knows_silence_answers_it(trained: Model, tmp_path: Path) -> None:
    folder = clips(tmp_path / "labelled", ("anger",), 2)
    (folder / "silence").mkdir()
    for number in range(2):
        soundfile.write(
            folder / "silence" / f"{number}.wav", 1e-5 * np.random.default_rng(number).normal(size=RATE), RATE
        )
    soundfile.write(tmp_path / "asked.wav", np.zeros(RATE), RATE)
    (row,) = trained.adapt(folder).predict(tmp_path / "asked.wav").table().to_dict("records")
    assert (row["label"], row["note"]) == ("silence", SILENT)


def test_levels_and_lengths_at_the_limits() -> None:
    import torch

    loud = torch.from_numpy(tone("anger", 0, 1.0)).float()
    assert [note(loud[: int(seconds * RATE)], RATE) for seconds in (0.19, 0.2)] == [TOO_SHORT, ""]
    sine = torch.sin(2 * torch.pi * 200 * torch.arange(RATE) / RATE) * 2**0.5
    assert [note(sine * 10 ** (level / 20), RATE) for level in (-66, -64)] == [SILENT, ""]


def test_json_holds_no_number_that_is_none() -> None:
    spans = [Span("a.wav", 0, 1), Span("b.wav", 0, 1), Span("b.wav", 1, 2)]
    answers = Answers(spans, ("x", "y"), np.array([[np.nan, np.nan], [0.25, 0.75], [np.nan, np.inf]]))

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    one, two = json.loads(answers.json(), parse_constant=refused)
    assert (one["label"], one["probabilities"]) == (None, {"x": None, "y": None})
    assert two["windows"][0]["label"] == "y"
    assert two["windows"][1]["label"] is None


# Adapting again, and how good it is


def test_classes_that_are_dropped_are_named(
    trained: Model, adapted: Model, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = clips(tmp_path / "two", ("anger", "sadness"), 2)
    capsys.readouterr()
    trained.adapt(two, also=["happiness"])
    assert capsys.readouterr().err == ""
    trained.adapt(two)
    assert f"no longer answered, for {two} has no clip of them: happiness; --also NAME" in capsys.readouterr().err
    done = run("adapt", mine, two, tmp_path / "m.safetensors")
    assert done.exit_code == 0, done.exception
    assert "no clip of them: awe; --also NAME" in done.stderr


def test_an_estimate_says_for_whom_it_holds(mine: Path, tmp_path: Path) -> None:
    one = clips(tmp_path / "one", KNOWN, 2, 0, "ada")
    unknown = clips(tmp_path / "unknown", KNOWN, 2)
    two = clips(clips(tmp_path / "two", KNOWN, 2, 0, "ada"), KNOWN, 2, 20, "bob")
    said = {path.name: run("adapt", mine, path, tmp_path / "m.safetensors").stdout for path in (one, unknown, two)}
    assert "for the one speaker of these clips only; others are usually much harder" in said["one"]
    assert "for the speakers of these clips only, whoever they are; others are usually much harder" in said["unknown"]
    assert "for the speakers of these clips only; others" in said["two"]
    assert "for speakers who are not in these clips" in said["two"]
    found = json.loads(run("adapt", mine, one, tmp_path / "m.safetensors", "--json").stdout)
    assert found["estimates"]["clips left out"]["holds"].startswith("for the one speaker")
