"""Models of one's own: trained, kept in a file, adapted to a few clips of any classes, asked about others."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import metaser as package
from metaser import config, models
from metaser.adaptation import file, load
from metaser.adaptation.model import with_classes
from metaser.adaptation.sound import stretches
from metaser.algorithms.base import Sources
from metaser.baselines.gaussian import Options
from metaser.runtime import sealed
from metaser.runtime.errors import UserError
from metaser.tasks import Task
from metaser.training import checkpoint, learners, methods
from metaser.training.checkpoint import Checkpoints
from support import REPOSITORY
from support.commands import assert_refused, metaser

ADAPT = REPOSITORY / "experiments" / "adapt"
RATE = 16000
#: Pitch in Hz of the made-up emotions.
PITCH = {"anger": 400, "happiness": 250, "sadness": 120, "awe": 700}


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


KNOWN = ("anger", "happiness", "sadness")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of two languages with three emotions."""
    folder = tmp_path_factory.mktemp("speech")
    for place, language in enumerate(("aa", "bb")):
        for speaker in ("s1", "s2"):
            clips(folder / language, KNOWN, 4, 100 * place + 10 * int(speaker[1]), speaker)
    corpora = ", ".join(f"{{name: {name}, path: {folder / name}, language: {name}}}" for name in ("aa", "bb"))
    return [part for setting in (
        f"data.collections={{own: {{corpora: [{corpora}]}}}}", "data.use=own", "data.sources=[]", "data.targets=[]",
        f"data.emotions=[{', '.join(KNOWN)}]", "tasks.ways=3", "tasks.shots=2", "tasks.queries=2", "evaluation.queries=2",
        "evaluation.min_queries=1", "training.iterations=8",
    ) for part in ("--set", setting)]  # fmt: skip


@pytest.fixture(scope="module")
def trained(speech: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model file of each kind."""
    folder = tmp_path_factory.mktemp("models")
    for algorithm in ("gaussian", "fomaml"):
        done = metaser(
            "train", folder / f"{algorithm}.safetensors", "--experiment", ADAPT, "--algorithm", algorithm, *speech
        )
        assert done.returncode == 0, done.stderr
        assert "aa: 24 clips, bb: 24 clips; knows anger, happiness, sadness" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["fomaml.safetensors", "gaussian.safetensors"]
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips per class, of two known ones and one that no model was trained on."""
    return clips(tmp_path_factory.mktemp("labelled"), ("anger", "sadness", "awe"), 2, 500)


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips(tmp_path_factory.mktemp("unheard"), ("anger", "sadness", "awe"), 3, 700)


@pytest.mark.parametrize("algorithm", ["gaussian", "fomaml"])
def test_a_model_is_adapted_to_classes_old_and_new_and_names_other_clips(
    trained: dict[str, Path],
    labelled: Path,
    unheard: Path,
    tmp_path: Path,
    algorithm: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = tmp_path / "mine.safetensors"
    done = metaser("adapt", trained[algorithm], labelled, mine)
    assert done.returncode == 0, done.stderr
    assert "awe                2 clips  (new to the model)" in done.stdout
    assert "clips left out, each in turn: " in done.stdout
    asked = metaser("predict", mine, unheard, "--csv")
    table = pd.read_csv(io.StringIO(asked.stdout))
    assert list(table.columns) == ["clip", "label", "probability", "p_anger", "p_sadness", "p_awe", "note"]
    true = table["clip"].map(lambda clip: Path(clip).parent.name)
    assert (true == table["label"]).all()
    assert np.allclose(table.filter(like="p_").sum(axis=1), 1, atol=1e-5)
    as_json = json.loads(metaser("predict", mine, unheard, "--json").stdout)
    assert [(row["clip"], row["label"]) for row in as_json] == list(zip(table["clip"], table["label"], strict=True))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(table["clip"][:2]) + "\n"))
    listed = metaser("predict", mine, "-", "--csv")
    assert listed.stdout.splitlines() == asked.stdout.splitlines()[:3], (
        "what is said of a clip does not depend on the others"
    )
    plain = metaser("predict", mine, unheard).stdout
    assert all(Path(clip).name in plain for clip in table["clip"])


def test_the_python_interface_is_the_same(
    trained: dict[str, Path], labelled: Path, unheard: Path, tmp_path: Path
) -> None:
    model = package.adapt(trained["gaussian"], labelled)
    asked = sorted(unheard.rglob("*.wav"))
    table = model.predict(asked).table()
    assert list(table["label"]) == [clip.parent.name for clip in asked]
    model.save(tmp_path / "mine.safetensors")
    again = package.load(tmp_path / "mine.safetensors").predict(asked).table()
    pd.testing.assert_frame_equal(table, again)
    with pytest.raises(AttributeError, match="adopt"):
        _ = package.adopt


def test_the_lines_of_the_readme_copied_work(
    trained: dict[str, Path], labelled: Path, unheard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (
        (REPOSITORY / "README.md").read_text(encoding="utf-8").split("## A language of your own")[1].split("\n## ")[0]
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained["fomaml"], "model.safetensors")
    shutil.copytree(labelled, "clips")
    (tmp_path / "new").mkdir()
    for number, clip in enumerate(sorted(unheard.rglob("*.wav")), 1):
        shutil.copy(clip, f"new/{number}.wav")
    commands = re.findall(r"^    (?:\.venv/bin/)?metaser (.*?)\s+#", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["train", "adapt", "predict"]
    for command in commands[1:]:
        done = metaser(*command.split())
        assert done.returncode == 0, done.stderr
    assert "new/9.wav" in done.stdout
    (code,) = re.findall(r"^    import metaser\n(?:    .*\n)+", section, re.MULTILINE)
    monkeypatch.setattr(
        package, "train", lambda path: load(path), raising=False
    )  # on 1,510 clips it would take minutes
    seen = io.StringIO()
    with contextlib.redirect_stdout(seen):
        exec(textwrap.dedent(code), {})
    assert "new/2.wav" in seen.getvalue()


def test_estimates_leave_clips_and_speakers_out_and_are_not_made_of_single_clips(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    model = load(trained["fomaml"])
    one = model.adapt(clips(tmp_path / "one", KNOWN, 1))
    assert one.estimate() == {}
    two = clips(clips(tmp_path / "two", KNOWN, 2, 0, "ada"), KNOWN, 2, 20, "bob")
    found = model.adapt(two).estimate()
    assert {name: estimate.clips for name, estimate in found.items()} == {"clips left out": 12, "speakers left out": 12}
    low, high = found["clips left out"].interval
    assert 0 <= low < found["clips left out"].share <= high <= 1
    # As if the clip had never been there: a wrong label of its own is no hint.
    model, clip = load(trained["fomaml"]), two / "ada" / "anger" / "0.wav"
    rows = [f"{path},{'sadness' if path == clip else path.parent.name}" for path in sorted(two.rglob("*.wav"))]
    (tmp_path / "listing.csv").write_text("path,emotion\n" + "\n".join(rows) + "\n")
    misled = model.adapt(tmp_path / "listing.csv").estimate()["clips left out"]
    assert misled.right < found["clips left out"].right, "it counts as an error, for the others still say anger"
    done = metaser("adapt", trained["fomaml"], tmp_path / "one", tmp_path / "m.safetensors")
    assert "no class may have a single clip for an estimate" in done.stderr


def test_a_known_class_without_clips_is_answered_where_it_is_asked_for(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    two = clips(tmp_path / "two", ("anger", "sadness"), 2)
    model = load(trained["gaussian"]).adapt(two, also=["happiness"])
    assert model.facts.answers == ("anger", "sadness", "happiness")
    heard = clips(tmp_path / "third", ("happiness",), 2, 40)
    assert set(model.predict(list(heard.rglob("*.wav"))).table()["label"]) == {"happiness"}


def test_long_clips_are_cut_into_windows_and_plotted(trained: dict[str, Path], labelled: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    load(trained["gaussian"]).adapt(labelled).save(mine)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.concatenate([tone("anger", 1, 2.0), tone("sadness", 2, 2.0)]), RATE)
    done = metaser(
        "predict", mine, long, labelled / "awe" / "500.wav", "--json", "--window", "1", "--timeline", tmp_path / "lines"
    )
    spoken, short = json.loads(done.stdout)
    labels = [(window["start"], window["end"], window["label"]) for window in spoken["windows"]]
    assert labels[0] == (0, 1, "anger")
    assert labels[-1] == (3, 4, "sadness")
    assert len(labels) == 7
    assert "windows" not in short
    mean = np.mean(
        [[window["probabilities"][name] for name in ("anger", "sadness", "awe")] for window in spoken["windows"]],
        axis=0,
    )
    assert np.allclose(list(spoken["probabilities"].values()), mean, atol=1e-5)
    (plot,) = (tmp_path / "lines").iterdir()
    assert len(np.unique(np.asarray(Image.open(plot).convert("L")))) > 10, "something is drawn"
    none = metaser("predict", mine, labelled / "awe" / "500.wav", "--timeline", tmp_path / "none")
    assert "nothing to draw, for no clip is longer than a window of 3 s" in none.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.quick
@given(samples=st.integers(1, 3000), window=st.integers(1, 500), hop=st.integers(1, 600))
def test_windows_lie_within_the_clip_reach_its_end_and_have_one_length(samples: int, window: int, hop: int) -> None:
    found = list(stretches(samples, window, hop))
    assert found[0][0] == 0
    assert found[-1][1] == samples
    assert {end - start for start, end in found} == {min(samples, window)}
    assert all(after[0] > before[0] for before, after in pairwise(found))
    assert all(after[0] - before[0] <= hop for before, after in pairwise(found))


def test_clips_of_one_speaker_can_be_measured_by_one_another(
    trained: dict[str, Path], labelled: Path, unheard: Path, tmp_path: Path
) -> None:
    """A microphone that is ten times as loud moves every level: together, clips lose it; apart, they keep it."""
    model, loud = load(trained["gaussian"]).adapt(labelled), tmp_path / "loud"
    for clip in unheard.rglob("*.wav"):
        (loud / clip.parent.name).mkdir(parents=True, exist_ok=True)
        soundfile.write(loud / clip.parent.name / clip.name, 0.1 * soundfile.read(clip)[0], RATE)
    plain, quiet = sorted(unheard.rglob("*.wav")), sorted(loud.rglob("*.wav"))
    apart = [model.predict(asked).probabilities for asked in (plain, quiet)]
    together = [model.predict(asked, together=True).probabilities for asked in (plain, quiet)]
    assert np.abs(apart[0] - apart[1]).max() > 2 * np.abs(together[0] - together[1]).max()


@pytest.mark.parametrize(
    "chosen",
    [
        {"name": "maml", "steps": 2}, {"name": "metasgd", "steps": 1}, {"name": "reptile", "steps": 2}, {"name": "protonet"},
        {"name": "matching"}, {"name": "relation"}, {"name": "fomaml", "steps": 1, "ensemble": 2},
        {"name": "fmaml", "steps": 1}, {"name": "joint", "tuning": {"epochs": 2, "batch": 4}},
    ],
    ids=lambda chosen: str(chosen["name"]),
)  # fmt: skip
def test_every_learner_is_kept_and_answers_as_before(chosen: dict[str, object]) -> None:
    rng, fixed = torch.Generator().manual_seed(1), int(chosen["name"] == "fmaml")
    support, query = (torch.randn(clips, 7, 1, generator=rng) for clips in (6, 4))
    y, nothing, classes = (
        torch.tensor([0, 0, 1, 1, 2, 2]),
        torch.zeros(4, dtype=torch.int64),
        ("a", "b", "c", "d")[: 3 + fixed],
    )
    task = Task(support, y, query, nothing, classes, fixed, "", torch.arange(6), torch.arange(4))
    options, own = config.Engine(layout="task"), methods.configured(**chosen)

    def built(seed: int) -> learners.Learner:
        return learners.build(
            own, [models.build("mlp", (7, 1), 3 + fixed, seed + n) for n in range(own.ensemble)], options
        )

    one, other = built(0), built(5)
    if own.name == "fmaml":
        one.offset = 0.7  # type: ignore[attr-defined]
    assert not torch.equal(one.predict(task), other.predict(task))
    other.restore({name: tensor.clone() for name, tensor in one.state().items()})
    assert torch.equal(one.predict(task), other.predict(task))
    spoilt = dict(one.state())
    spoilt.pop(next(iter(spoilt)))
    with pytest.raises(ValueError, match=r"tensors differ|not"):
        other.restore(spoilt)


@pytest.mark.quick
def test_a_class_that_no_source_has_is_a_gaussians_by_its_support_alone() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(40, 3, 1))).float()
    names = ["a", "b"] * 20
    x[1::2] += 2
    learner = learners.build(methods.configured("gaussian", gaussian=Options(unlabelled=(0.0,), prior=(1e6,))),
                             [models.build("mlp", (3, 1), 2, 0)])  # fmt: skip
    learner.prepare(Sources(x, names, ["s"] * 20 + ["t"] * 20, ("a", "b")))
    support = torch.tensor([[0.0, 0, 0], [2, 2, 2], [-4, 4, -4], [-4, 4, -4]])[:, :, None]
    query = torch.tensor([[0.0, 0, 0], [2, 2, 2], [-4, 4, -4]])[:, :, None]
    task = Task(support, torch.tensor([0, 1, 2, 2]), query, torch.zeros(3, dtype=torch.int64), ("a", "b", "c"), 0, "",
                torch.arange(4), torch.arange(3))  # fmt: skip
    assert learner.predict(task).argmax(dim=1).tolist() == [0, 1, 2], "a prior worth a million clips does not move it"


@pytest.mark.quick
def test_a_head_keeps_the_rows_of_known_classes_and_begins_new_ones_at_the_mean() -> None:
    weight, bias, other = torch.randn(3, 5), torch.randn(3), torch.randn(3, 3)
    found = with_classes({"model.head.weight": weight, "0.rates.head.bias": bias, "model.body.weight": other},
                         ("a", "b", "c"), ("c", "new", "a"))  # fmt: skip
    assert torch.equal(found["model.head.weight"], torch.stack([weight[2], weight.mean(dim=0), weight[0]]))
    assert torch.equal(found["0.rates.head.bias"], torch.stack([bias[2], bias.mean(), bias[0]]))
    assert found["model.body.weight"] is other


def test_a_stopped_training_goes_on_to_the_same_file(
    speech: list[str], trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.safetensors"
    command = ["train", out, "--experiment", ADAPT, "--algorithm", "fomaml", *speech]
    keep = Checkpoints.keep

    def stopping(self: Checkpoints, *arguments: object) -> None:
        self.seconds = 0
        keep(self, *arguments)  # type: ignore[arg-type]
        if arguments[2].iteration == 5:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "keep", stopping)
        done = metaser(*command)
    assert done.returncode == 130
    assert "goes on from the last checkpoint" in done.stderr
    assert not out.exists()
    assert metaser(*command).returncode == 0
    (found, facts), (wanted, known) = (sealed.read(path, file.KIND) for path in (out, trained["fomaml"]))
    assert facts == known
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert list(tmp_path.iterdir()) == [out]


def test_mistakes_are_one_line_and_leave_nothing(
    trained: dict[str, Path], labelled: Path, speech: list[str], tmp_path: Path
) -> None:
    model, out = trained["gaussian"], tmp_path / "out" / "m.safetensors"
    single = clips(tmp_path / "single", ("anger",), 2)
    broken = clips(tmp_path / "broken", ("anger", "sadness"), 1)
    (broken / "anger" / "0.wav").write_bytes(b"RIFF")
    assert_refused(metaser("predict", model, labelled), "not adapted to any clips yet", "metaser adapt")
    assert_refused(metaser("adapt", model, single, out), "holds anger alone")
    assert_refused(metaser("adapt", model, broken, out), str(broken / "anger" / "0.wav"), "not readable as audio")
    assert_refused(metaser("adapt", model, labelled, out, "--also", "hapiness"), "did you mean 'happiness'?")
    assert_refused(metaser("adapt", model, labelled, out, "--also", "anger"), "has clips of it")
    assert_refused(metaser("adapt", model, labelled, tmp_path), "is a folder")
    assert_refused(metaser("adapt", tmp_path / "none.safetensors", labelled, out), "no such file")
    assert_refused(metaser("predict", trained["fomaml"], tmp_path / "out"), "not adapted")
    assert_refused(metaser("train", out, "--experiment", ADAPT, "--algorithm", "svm", *speech), "svm", "cannot be kept")
    assert_refused(
        metaser("train", out, "--experiment", ADAPT, "--algorithm", "gausian", *speech), "did you mean 'gaussian'?"
    )
    assert_refused(metaser("train", out, "--experiment", REPOSITORY / "experiments" / "mnist"), "images")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_model_files_that_are_damaged_or_made_up_get_one_line_each(
    trained: dict[str, Path], labelled: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.safetensors"
    load(trained["fomaml"]).adapt(labelled).save(mine)
    whole, rng = mine.read_bytes(), random.Random(0)
    files: dict[str, bytes] = {"empty": b"", "text": b"hello", "zeros": bytes(64), "longer": whole + b"\0",
                               "header": (2**62).to_bytes(8, "little") + whole[8:], "pickle": b"\x80\x04N."}  # fmt: skip
    files |= {f"cut {n}": whole[: rng.randrange(len(whole))] for n in range(40)}
    for n in range(60):
        place = rng.randrange(len(whole))
        files[f"bit {n}"] = whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
    tensors, facts = sealed.read(mine, file.KIND)
    for label, change in (
        ("classes", {"classes": ["a"]}), ("fixed", {"fixed": 7}), ("network", {"network": "mpl"}), ("answers", {"answers": []}),
        ("also", {"also": 9}), ("recipe", {"recipe": "0" * 64}), ("features", {"features": {"recipe": "wav2"}}),
        ("key", {"more": 1}), ("algorithm", {"algorithm": {"name": "mamal"}}), ("type", {"fixed": "0"}),
        ("classical", {"algorithm": {"name": "svm"}}),
    ):  # fmt: skip
        sealed.write(tmp_path / "forged", tensors, {**facts, **change}, file.KIND)
        files[f"forged {label}"] = (tmp_path / "forged").read_bytes()
    for name, tensor in tensors.items():
        for label, other in (("lost", None), ("shape", tensor[..., None]), ("type", tensor.to(torch.float16)), ("none", tensor[:0]),
                             ("nan", tensor.double() * torch.nan)):  # fmt: skip
            changed = {key: value for key, value in tensors.items() if key != name} | (
                {name: other} if other is not None else {}
            )
            sealed.write(tmp_path / "forged", changed, facts, file.KIND)
            files[f"{label} {name}"] = (tmp_path / "forged").read_bytes()
    sealed.write(tmp_path / "forged", tensors, facts, checkpoint.FORMAT)
    files["checkpoint"] = (tmp_path / "forged").read_bytes()
    (tmp_path / "forged").unlink()
    assert len(files) > 150
    spoilt = tmp_path / "spoilt.safetensors"
    for label, content in files.items():
        spoilt.write_bytes(content)
        with pytest.raises(UserError) as caught:
            raise AssertionError(f"{label} was read as {load(spoilt).facts}")
        assert str(caught.value).startswith(str(spoilt)), (label, str(caught.value))
        assert "\n" not in str(caught.value), label
    spoilt.write_bytes(files["cut 0"])
    assert_refused(metaser("predict", spoilt, labelled), str(spoilt))
