"""Model files, audio, archives and names from somebody who means harm: one clear line each, in little memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import struct
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metaser import config, models
from metaser.adaptation import file, load
from metaser.adaptation.answers import Answers
from metaser.adaptation.file import Facts, Trained
from metaser.adaptation.model import Model, Support
from metaser.adaptation.sound import Sound, Span, sound
from metaser.algorithms.base import Sources
from metaser.algorithms.inner import STEPS
from metaser.baselines.gaussian import COMBINATIONS
from metaser.config.algorithm import EPOCHS
from metaser.corpora import fetch as fetching
from metaser.corpora import find
from metaser.corpora.audio import CHANNELS, LARGEST, MOST, decoded, read_samples
from metaser.corpora.folder import Folder
from metaser.corpora.unpack import unpack
from metaser.corpora.verify import verify
from metaser.features import extract, recipe
from metaser.reporting.finished import read_results
from metaser.reporting.results import write_csv
from metaser.reporting.spreadsheet import guarded, unguarded
from metaser.runtime import sealed
from metaser.runtime.errors import CONTROL, UnwritableError, UserError
from metaser.runtime.files import seal
from metaser.tasks import Task
from metaser.training import learners, methods
from support.corpora import zipped
from support.hostile.corpora import THINGS
from support.hostile.inputs import flac, noise, wav

RATE = 16000
SIX_HOURS = 6 * 3600 * RATE


@contextlib.contextmanager
def bounded(seconds: int = 120) -> Iterator[None]:
    """What is done in here may neither block for ever nor need a GB more than was needed before."""

    def stop(*_: object) -> None:
        raise AssertionError("it blocks")

    before, peak = signal.signal(signal.SIGALRM, stop), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1 << 20, "a GB"


def refused(attempt: Callable[[], object], *parts: object) -> str:
    """The message of a refusal: one line of bearable length that says all that it should."""
    with bounded(), pytest.raises(UserError) as caught:
        attempt()
    message = str(caught.value)
    assert not CONTROL.search(message), message
    assert len(message) < 1000, message[:200]
    for part in parts:
        assert str(part) in message, message
    return message


# --- model files ---

CLASSES = ("anger", "sadness", "fear")


def facts(name: str = "fomaml", **settings: Any) -> Facts:
    """Of a model with a small network, adapted to two classes."""
    trained = Trained(experiment="adapt", variant="own", protocol="strict", label=name, seed=0, kind="real", clips={"aa": 9},
                      commit="", versions={})  # fmt: skip
    return Facts(
        algorithm=methods.configured(name, **settings), engine=config.Engine(), network="mlp",
        features=config.Features(recipe="functionals"), recipe=seal(asdict(recipe("functionals"))), classes=CLASSES, fixed=0,
        trained=trained, answers=CLASSES[:2],
    )  # fmt: skip


@pytest.fixture(scope="module", params=["fomaml", "gaussian"])
def adapted(request: pytest.FixtureRequest) -> Model:
    """A model that was not trained, for what it says matters to nobody."""
    own, rng = facts(request.param), torch.Generator().manual_seed(0)
    shape = recipe("functionals").shape
    learner = learners.build(own.algorithm, [models.build(own.network, shape, len(CLASSES), 0)])
    learner.prepare(Sources(torch.randn(12, *shape, generator=rng), list(CLASSES) * 4, ["aa", "bb"] * 6, CLASSES))
    x = torch.randn(4, *shape, generator=rng)
    support = Support(Sound(x, torch.ones(4, dtype=torch.int64)), torch.tensor([0, 0, 1, 1]), torch.full((4,), -1))
    return Model(own, {name: tensor.detach().clone() for name, tensor in learner.state().items()}, support)


@pytest.fixture
def kept(adapted: Model, tmp_path: Path) -> Path:
    adapted.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_model_is_read_back_and_through_a_link(kept: Path, adapted: Model) -> None:
    """Also its covariances, which are float64."""
    kept.with_name("link").symlink_to(kept)
    for path in (kept, kept.with_name("link")):
        found = load(path)
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in adapted.tensors.items())
        assert np.isfinite(found.probabilities(adapted.support.sound, found.support)).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_neither_read_nor_written(kept: Path, adapted: Model, value: float) -> None:
    tensors, tree = sealed.read(kept, file.KIND)
    unwritten = kept.with_name("unwritten")
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            spoilt = tensor.clone()
            spoilt.view(-1)[-1] = value
            changed = tensors | {name: spoilt}
            sealed.write(kept, changed, tree, file.KIND)
            refused(lambda: load(kept), kept, "NaN or infinite")
            refused(partial(file.write, unwritten, adapted.facts, changed), unwritten, "NaN or infinite")
            assert not unwritten.exists()


#: Facts that no model has, and what the message says of them.
MADE_UP: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"algorithm": {"name": "fomaml", "steps": 10**9}}, f"less than or equal to {STEPS}"),
    "test steps": ({"algorithm": {"name": "fomaml", "test_steps": 10**9}}, f"less than or equal to {STEPS}"),
    "epochs": ({"algorithm": {"name": "fomaml", "tuning": {"epochs": 10**9}}}, f"less than or equal to {EPOCHS}"),
    "options": ({"algorithm": {"name": "gaussian", "gaussian": {key: [0.1] * 20 for key in ("own", "shrinkage", "prior")}}},
                f"8000 combinations of options are more than {COMBINATIONS}"),
    "networks": ({"network": "mnist-cnn", "algorithm": {"name": "fomaml", "ensemble": 100}}, "mnist-cnn and fomaml"),
    "a network of images": ({"network": "omniglot-cnn"}, "omniglot-cnn and fomaml"),
    "another network": ({"network": "fmaml-pooled"}, "fmaml-pooled and fomaml"),
    "no network": ({"network": "../../etc/passwd"}, "there is no '../../etc/passwd'"),
    "a network of lines": ({"network": "a\nb\x1b[2J"}, "control character"),
    "a network of a million letters": ({"network": "x" * 10**6}, "at most 100 characters"),
    "an algorithm of a million letters": ({"algorithm": {"name": "x" * 10**6}}, "algorithm: there is no"),
    "a recipe of a million letters": ({"features": {"recipe": "x" * 10**6}}, "features.recipe: there is no"),
    "a class too many": ({"classes": [f"c{n}" for n in range(file.CLASSES + 1)]}, f"at most {file.CLASSES} items"),
    "a million classes": ({"classes": [f"c{n}" for n in range(10**6)]}, f"more than {file.HEADER}"),
    "many answers": ({"answers": [f"{n:x}" for n in range(2 * 10**5)]}, f"at most {file.CLASSES} items"),
    "a class without a name": ({"classes": ["anger", "sadness", ""]}, "at least 1 character"),
    "a long class": ({"classes": ["anger", "sadness", "f" * 101]}, "at most 100 characters"),
    "a class of two lines": ({"classes": ["anger", "sadness", "fe\nar"]}, "control character"),
    "a class that moves the cursor": ({"answers": ["anger", "\x1b[2J"]}, "control character"),
    "a key of a million letters": ({"x" * 10**6: 1}, "unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("adapted", ["fomaml"], indirect=True)
@pytest.mark.parametrize("kind", MADE_UP)
def test_facts_that_no_model_has_are_one_line(kept: Path, kind: str) -> None:
    changes, part = MADE_UP[kind]
    tensors, tree = sealed.read(kept, file.KIND)
    sealed.write(kept, tensors, {**tree, **changes}, file.KIND)
    assert refused(lambda: load(kept), part).startswith(f"{kept}: ")


@pytest.mark.parametrize("adapted", ["fomaml"], indirect=True)
def test_what_would_not_be_read_is_not_made(adapted: Model, tmp_path: Path) -> None:
    soundfile.write(clip(tmp_path / "clips", "anger"), noise(), RATE)
    soundfile.write(clip(tmp_path / "clips", "fear"), noise(), RATE)
    refused(lambda: adapted.adapt(tmp_path / "clips", steps=10**9), "test_steps", f"less than or equal to {STEPS}")
    soundfile.write(clip(tmp_path / "clips", "b\x07ell"), noise(), RATE)
    refused(lambda: adapted.adapt(tmp_path / "clips"), "answers", "control character")
    longest = adapted.facts.model_copy(update={"answers": ("anger", "f" * 101)})
    refused(lambda: file.write(tmp_path / "model", longest, adapted.tensors), "at most 100 characters")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("adapted", ["fomaml"], indirect=True)
def test_model_files_that_claim_or_have_too_much(kept: Path) -> None:
    whole = kept.read_bytes()
    with kept.open("r+b") as handle:
        handle.truncate(1 << 36)
    refused(lambda: load(kept), kept, f"{1 << 36} bytes", file.LARGEST)
    for claimed in (file.HEADER + 1, 2**62):
        kept.write_bytes(struct.pack("<Q", claimed) + whole[8:])
        os.truncate(kept, file.LARGEST)
        refused(lambda: load(kept), kept, claimed, file.HEADER)
    shape = {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}
    for header in ({"x": shape}, {f"x{n}": {**shape, "shape": [0], "data_offsets": [0, 0]} for n in range(10**4)},
                   {"x": {**shape, "shape": [1 << 62, 1 << 62, 0], "data_offsets": [0, 0]}}, [], {"__metadata__": 1}):  # fmt: skip
        if isinstance(header, dict):
            header.setdefault("__metadata__", {"format": file.KIND, "facts": "{}", "digest": ""})
        text = json.dumps(header).encode()
        kept.write_bytes(struct.pack("<Q", len(text)) + text)
        refused(lambda: load(kept), kept)


NO_FILES = [
    name for name in THINGS if name != "deep folders" and ("link" in name or name in ("folder", "pipe", "socket"))
]


def thing(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that is no file, and a link to it; the link."""
    monkeypatch.chdir(path.parent)
    THINGS[kind](path)
    link = path.with_name(f"link to {path.name}")
    link.symlink_to(path)
    return link


@pytest.mark.parametrize("kind", NO_FILES)
def test_no_file_is_no_model(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    link = thing(path, kind, monkeypatch)
    refused(lambda: load(path), path)
    refused(lambda: load(link), link)


# --- what a model says ---


def no_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_an_answer_that_is_not_finite_is_null() -> None:
    spans = [Span("a.wav", 0, 1), Span("b.wav", 0, 1), Span("b.wav", 1, 2)]
    answers = Answers(spans, ("anger", "fear"), np.array([[np.nan, np.nan], [np.inf, 0.0], [0.75, 0.25]]))
    first, second = json.loads(answers.json(), parse_constant=no_constant)
    assert first == {"clip": "a.wav", "label": None, "note": "", "probabilities": {"anger": None, "fear": None}}
    assert [window["label"] for window in second["windows"]] == [None, "anger"]
    assert pd.read_csv(io.StringIO(answers.csv()))["label"].isna().all()


def task() -> Task:
    rng = torch.Generator().manual_seed(1)
    support, query = (torch.randn(clips, 7, 1, generator=rng) for clips in (6, 4))
    return Task(support, torch.tensor([0, 0, 1, 1, 2, 2]), query, torch.zeros(4, dtype=torch.int64), ("a", "b", "c", "d"), 1, "",
                torch.arange(6), torch.arange(4))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings"),
    [("maml", {}), ("fomaml", {"statistics": "support"}), ("reptile", {}), ("anil", {}), ("metasgd", {}), ("supervised", {}),
     ("fmaml", {"mask_fixed": True})],
)  # fmt: skip
def test_a_prediction_keeps_no_path_of_weights(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says, bit for bit, what the end of the path says."""
    own = methods.configured(name, inner_lr=0.1, test_steps=40, **settings)
    learner: Any = learners.build(own, [models.build("mlp", (7, 1), 4, 0)], config.Engine(layout="task"))
    alive: list[weakref.ref[torch.Tensor]] = []
    most, adapt = 0, type(learner).adapt

    def counted(one: Any, *arguments: Any, **options: Any) -> None:
        nonlocal most
        adapt(one, *arguments, **options)
        alive.append(weakref.ref(list(one.module.parameters())[-1]))
        most = max(most, sum(weights() is not None for weights in alive))

    with monkeypatch.context() as patch:
        patch.setattr(type(learner), "adapt", counted)
        found = learner.predict(task())
    assert len(alive) == 40
    assert most <= 3
    group = learner.engine.group([task()])
    end = learner.begin(group, first_order=True)
    for _ in range(40):
        end.adapt(end.inner_loss(group))
    with torch.no_grad():
        asked = learner.engine.conditioned(end.module, group) if settings.get("statistics") else end.query(group).logits
    assert torch.equal(found, asked)


# --- audio ---


def clip(folder: Path, emotion: str, name: str = "1.wav") -> Path:
    (folder / emotion).mkdir(parents=True, exist_ok=True)
    return folder / emotion / name


def uses(path: Path) -> Iterator[Callable[[], object]]:
    """All that reads a clip that is named."""
    yield lambda: read_samples(path)
    yield lambda: sound([str(path)], recipe("functionals"))
    yield lambda: extract(pd.DataFrame({"path": [str(path)]}), recipe("functionals"), workers=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METASER_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", NO_FILES)
def test_no_file_is_no_clip(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.wav"
    for name in (path, thing(path, kind, monkeypatch)):
        for use in uses(name):
            refused(use, name)
    refused(lambda: read_samples(f"{tmp_path}/a\0b.wav"), "a\\x00b.wav")


def sparse(path: Path, header: bytes, size: int) -> Path:
    """A file of zeros behind a header, which takes no room on the disk."""
    path.write_bytes(header)
    os.truncate(path, size)
    return path


def long(path: Path, samples: int) -> Path:
    """A 16-bit WAV file of silence."""
    return sparse(path, wav(b"", size=2 * samples, riff=36 + 2 * samples), 44 + 2 * samples)


def test_recordings_of_six_hours_and_giants_are_refused_by_their_headers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.flac", noise(), RATE)
    claims = tmp_path / "claims.flac"
    claims.write_bytes(flac((tmp_path / "short.flac").read_bytes(), total=SIX_HOURS))
    unknown = tmp_path / "unknown.flac"
    unknown.write_bytes(flac((tmp_path / "short.flac").read_bytes(), total=0))
    endless = b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 2, RATE, 1)  # AU, 8 bits
    tracemalloc.start()
    try:
        for path, part in (
            (long(tmp_path / "long.wav", SIX_HOURS), "is 360 minutes long"), (claims, "is 360 minutes long"),
            (unknown, "does not say how long it is"), (sparse(tmp_path / "endless.wav", endless, LARGEST), f"a clip has {MOST}"),
            (sparse(tmp_path / "giant.wav", b"RIFF", 1 << 40), f"has {1 << 40} bytes"),
            (sparse(tmp_path / "zeros.wav", b"", LARGEST), "not readable as audio"),
        ):  # fmt: skip
            for use in list(uses(path))[
                : 3 if path == claims else 2
            ]:  # to extract features hashes the whole file first
                refused(use, path, part)
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ({"rate": 1}, "sample rate of 1 Hz"),
        ({"rate": 2**31 - 1}, "sample rate"),
        ({"channels": CHANNELS + 1}, "channels"),
    ],
)
def test_headers_that_no_recording_has(tmp_path: Path, header: dict[str, int], part: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(bytes(2 * (CHANNELS + 1) * 100), **header))
    refused(lambda: read_samples(path), path, part)


def test_a_corpus_of_long_clips_is_verified_in_little_memory_with_a_line_each(tmp_path: Path) -> None:
    for number in range(3):
        long(clip(tmp_path / "mine", "anger", f"{number}.wav"), SIX_HOURS)
    half_an_hour = 1800 * RATE
    for number in range(3):
        long(clip(tmp_path / "mine", "fear", f"{number}.wav"), half_an_hour)
    tracemalloc.start()
    try:
        report = verify(Folder("mine", tmp_path / "mine", "el"), tmp_path / "mine", workers=2)
        assert tracemalloc.get_traced_memory()[1] < 4 * half_an_hour / 2, "not even half of one decoded clip"
    finally:
        tracemalloc.stop()
    found = [str(finding) for finding in report.findings]
    assert sum("is 360 minutes long" in line for line in found) == 3
    assert sum("holds only silence" in line for line in found) == 3


def test_a_clip_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = long(tmp_path / "x.wav", 3 << 20)

    def change(how: Callable[[], object]) -> None:
        with decoded(path) as (_, blocks):
            next(blocks)
            how()
            for _block in blocks:
                pass

    refused(lambda: change(lambda: path.write_bytes(b"")), path, "truncated")
    long(path, 3 << 20)
    refused(lambda: change(lambda: os.utime(path, (0, 0))), path, "changed while it was read")


# --- archives ---


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_that_is_in_the_target_already_is_not_followed(tmp_path: Path, inside: bool) -> None:
    archive, target, other = tmp_path / "a.zip", tmp_path / "target", tmp_path / "other"
    archive.write_bytes(zipped({"wav/deep/03a01Fa.wav": b"clip", "text.txt": b"text"}))
    for folder in (target, other / "deep"):
        folder.mkdir(parents=True)
    if inside:
        (target / "wav").symlink_to(other)
    else:
        (target / "wav").mkdir()
        (target / "wav" / "deep").symlink_to(other / "deep")
    with pytest.raises(UnwritableError, match="is a link or no folder"):
        unpack(archive, target)
    assert [path for path in other.rglob("*") if not path.is_dir()] == []


def test_a_folder_to_fetch_into_that_is_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".emodb.fetch").symlink_to(tmp_path / "other")
    monkeypatch.setattr(fetching, "download", lambda *_: pytest.fail("it began"))
    refused(lambda: fetching.fetch(find("emodb"), tmp_path / "root"), ".emodb.fetch")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(("name", "said"), [("emodb", True), ("ravdess", False)])
def test_what_comes_over_plain_http_without_a_checksum_is_said_before_it_comes(
    tmp_path: Path, name: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(*_: object) -> Path:
        raise UserError(f"said: {'plain http and without a published checksum' in capsys.readouterr().out}")

    monkeypatch.setattr(fetching, "download", download)
    refused(lambda: fetching.fetch(find(name), tmp_path), f"said: {said}")


# --- CSV ---

FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", "==")
PLAIN = ("anger", "-1", "+1e3", "-inf", "a=1", "'quoted'", "", "-.5")


def test_text_that_a_spreadsheet_would_run_is_guarded_and_read_back() -> None:
    frame = pd.DataFrame({"clip": [*FORMULAS, *PLAIN], "number": -1.5})
    kept = guarded(frame)
    assert list(kept["clip"]) == [*(f"'{text}" for text in FORMULAS), *PLAIN]
    pd.testing.assert_series_equal(kept["number"], frame["number"])
    assert list(unguarded(kept)["clip"]) == list(frame["clip"])
    plain = frame.iloc[len(FORMULAS) :]
    assert guarded(plain) is plain


def test_predictions_as_csv_are_guarded() -> None:
    answers = Answers([Span("=cmd()", 0, 1), Span("b.wav", 0, 1)], ("-x", "@y"), np.array([[0.75, 0.25], [0.25, 0.75]]))
    assert answers.csv().splitlines() == [
        "clip,label,probability,p_-x,p_@y,note", "'=cmd(),'-x,0.750000,0.750000,0.250000,", "b.wav,'@y,0.750000,0.250000,0.750000,",
    ]  # fmt: skip


def test_results_are_guarded_and_read_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"algorithm": ["=1+1", "maml"], "true": ["@x", "-y"], "count": [-1, 2]})
    write_csv(frame, tmp_path / "confusion.csv")
    assert (tmp_path / "confusion.csv").read_text().splitlines()[1:] == ["'=1+1,'@x,-1", "maml,'-y,2"]
    found = read_results(tmp_path / "confusion.csv", ["algorithm"])
    assert found.astype(object).values.tolist() == frame.astype(object).values.tolist()
