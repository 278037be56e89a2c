"""Features: golden numbers, the cache, normalisation and errors.

Reached against librosa 0.11 and scikit-image 0.26: 5e-4 of 204 (`metaser`) and 5e-5 of 41 (`fmaml-code`), which is the
golden file's own rounding to six digits; against the two live, unrounded, 1.3e-4 and 4e-5.
"""

import errno
import json
import runpy
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import python_speech_features
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metaser.corpora.base import COLUMNS
from metaser.features import RECIPES, FeatureSet, compute, extract, extraction, normalise, recipe
from metaser.features.clip import trim_silence
from metaser.features.coefficients import MFCC
from metaser.features.functionals import Functionals
from metaser.runtime.errors import UserError

pytestmark = pytest.mark.arithmetic

#: The recipes of one coefficient a frame; functionals and encoders have files of their own.
FRAMED = [name for name, entry in RECIPES.items() if isinstance(entry, MFCC) and not isinstance(entry, Functionals)]

GOLDEN = runpy.run_path(str(Path(__file__).parent / "golden" / "make_features_golden.py"))
NUMBERS = json.loads((Path(__file__).parent / "golden" / "features.json").read_text(encoding="utf-8"))
CODE_FRAMES = list(GOLDEN["FMAML_CODE_FRAMES"])


def waveform(rate, seconds):
    return torch.from_numpy(GOLDEN["signal"](rate, seconds))


def table_of(paths, **columns):
    rows = pd.DataFrame({"path": [str(path) for path in paths]}, columns=list(COLUMNS)).fillna("")
    return rows.assign(**{"corpus": "made", "language": "de", **columns})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METASER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def table(tmp_path):
    """Five clips from 5 ms to 3.2 s."""
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for path, seconds in zip(paths, (0.5, 0.005, 1.0, 3.2, 0.7), strict=True):
        soundfile.write(path, GOLDEN["signal"](16000, seconds), 16000)
    return table_of(paths, speaker=["a", "a", "b", "b", ""])


@pytest.fixture
def reads(monkeypatch):
    """The paths that are decoded."""
    seen = []
    read = extraction.read_waveform
    monkeypatch.setattr(extraction, "read_waveform", lambda path, rate: seen.append(path) or read(path, rate))
    return seen


# The numbers


@pytest.mark.quick
def test_metaser_gives_librosas_numbers_from_a_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", GOLDEN["signal"](22050, 1.0), 22050, subtype="FLOAT")
    features = extract(table_of([tmp_path / "a.wav"]), recipe("metaser"))
    assert features.x.shape == (1, 20, 120)
    assert features.lengths.tolist() == [44]
    found = features.x[0][:, list(GOLDEN["METASER_FRAMES"])]
    np.testing.assert_allclose(found, NUMBERS["metaser"], rtol=5e-6, atol=2e-4)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "seconds", "padding", "valid"),
    [
        ("fmaml-code", 1.2, "constant", 40),
        ("fmaml-code, 0.6 s", 0.6, "constant", 26),
        ("fmaml-code, reflect", 1.2, "reflect", 40),
    ],
)
def test_fmaml_code_gives_its_authors_numbers(name, seconds, padding, valid):
    found, length = compute(waveform(16000, seconds), recipe("fmaml-code", padding=padding))
    golden = np.array(NUMBERS[name])
    np.testing.assert_allclose(found[:, CODE_FRAMES[: golden.shape[1]]], golden, rtol=5e-6, atol=2e-4)
    assert length == valid


@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_metaser_agrees_with_librosa_where_it_is_installed(seconds):
    pytest.importorskip("librosa")
    samples = waveform(22050, seconds)
    golden = GOLDEN["librosa_mfcc"](samples.numpy(), 22050)
    found, length = compute(samples, recipe("metaser"))
    assert length == golden.shape[1]
    np.testing.assert_allclose(found[:, :length], golden, rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_fmaml_code_agrees_with_librosa_and_scikit_image_where_they_are_installed(seconds, padding):
    pytest.importorskip("librosa")
    pytest.importorskip("skimage")
    samples = waveform(16000, seconds)
    found, _ = compute(samples, recipe("fmaml-code", padding=padding))
    np.testing.assert_allclose(found, GOLDEN["fixed_maml_mfcc"](samples.numpy(), padding), rtol=1e-5, atol=2e-4)


def test_the_second_backend_is_python_speech_features_with_its_own_defaults():
    samples = waveform(22050, 1.0)
    found, length = compute(samples, recipe("metaser", backend="python_speech_features"))
    direct = python_speech_features.mfcc(
        samples.double().numpy(), 22050, winlen=2048 / 22050, winstep=512 / 22050, numcep=20, nfilt=128, nfft=2048
    )
    assert length == len(direct) == 41
    np.testing.assert_allclose(found[:, :length], direct.T, rtol=1e-6)
    long, _ = compute(waveform(16000, 3.0), recipe("fmaml-long", backend="python_speech_features", trim_db=None))
    direct = python_speech_features.mfcc(
        waveform(16000, 3.0).double().numpy(), 16000, 0.03, 0.01, numcep=40, nfilt=40, nfft=480, lowfreq=20
    )
    np.testing.assert_allclose(long[:, : len(direct)], direct.T, rtol=1e-6)


@pytest.mark.quick
def test_fmaml_is_fmaml_long_averaged_over_the_area_of_each_frame():
    samples = waveform(16000, 3.0)
    long, _ = compute(samples, recipe("fmaml-long"))
    short, length = compute(samples, recipe("fmaml"))
    assert long.shape == (40, 300)
    assert short.shape == (40, 40)
    assert length == 40
    fine = long.double().repeat_interleave(2, dim=1).reshape(40, 40, 15).mean(dim=2)  # 300 · 2 = 40 · 15
    np.testing.assert_allclose(short, fine, rtol=1e-5, atol=1e-4)


def test_an_average_takes_valid_frames_only():
    samples = waveform(16000, 0.52)  # 53 frames: seven of 7.5, and half a frame
    long, valid = compute(samples, recipe("fmaml-long", trim_db=None))
    short, length = compute(samples, recipe("fmaml", trim_db=None))
    assert (valid, length) == (53, 8)
    np.testing.assert_allclose(short[:, 7], long[:, 52], rtol=1e-5, atol=1e-4)


def test_padding_the_waveform_with_silence_changes_no_valid_frame():
    samples = waveform(16000, 1.0)
    found, length = compute(samples, recipe("fmaml-long", trim_db=None))
    padded, _ = compute(torch.nn.functional.pad(samples, (0, 32000)), recipe("fmaml-long", trim_db=None))
    torch.testing.assert_close(found[:, :length], padded[:, :length], rtol=1e-5, atol=1e-3)


def test_silence_around_the_speech_is_trimmed():
    speech = waveform(16000, 1.0)
    around = torch.cat([torch.full((8000,), 1e-5), speech, torch.full((4800,), 1e-5)])
    trimmed = trim_silence(around, 40.0, 480, 160)
    assert abs(len(trimmed) - 16000) <= 2 * 480
    assert len(trim_silence(around, 120.0, 480, 160)) == len(around)
    assert len(trim_silence(torch.zeros(3000), 40.0, 480, 160)) == 3000


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, "torchaudio") for name in FRAMED]
    + [(name, "python_speech_features") for name in FRAMED if name != "fmaml-code"],
)
@pytest.mark.parametrize("samples", [1, 5, 100, 16000, 100000])
def test_any_length_and_silence_give_finite_features_and_zeros_in_padding(name, backend, padding, samples):
    wanted = recipe(name, backend=backend, padding=padding)
    for clip in (torch.zeros(samples), waveform(wanted.rate, 5.0)[:samples]):
        found, length = compute(clip, wanted)
        assert found.shape == (wanted.coefficients, wanted.frames)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        assert 1 <= length <= wanted.frames
        assert (found[:, length:] == 0).all()


# Recipes


def test_a_recipe_is_looked_up_by_name():
    assert recipe("metaser") == RECIPES["metaser"]
    assert recipe("fmaml", trim_db=30).trim_db == 30
    assert [RECIPES[name].frames for name in ("fmaml", "fmaml-long", "fmaml-code", "metaser")] == [40, 300, 40, 120]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("fmalm", {}, "no feature recipe 'fmalm'; did you mean 'fmaml'"),
        ("fmaml", {"trimdb": 3}, "no field 'trimdb'; did you mean 'trim_db'"),
        ("fmaml", {"name": "mine"}, "no field 'name'"),
        ("fmaml-code", {"backend": "python_speech_features"}, "backend cannot be 'python_speech_features'"),
        ("fmaml", {"backend": "torch-audio"}, "did you mean 'torchaudio'"),
        ("fmaml", {"coefficients": 0}, "coefficients cannot be 0"),
        ("fmaml", {"rate": "16k"}, "rate cannot be '16k'"),
        ("fmaml", {"trim_db": -3}, "trim_db cannot be -3"),
        ("fmaml", {"seconds": None}, "seconds cannot be None"),
        ("fmaml", {"mels": 39}, "mels cannot be 39"),
        ("fmaml", {"f_max": 9000}, "f_max cannot be 9000"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(name, overrides, words):
    with pytest.raises(UserError) as caught:
        recipe(name, **overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Extraction and its cache


@pytest.mark.quick
def test_a_second_call_decodes_nothing(table, reads):
    first = extract(table, recipe("fmaml"))
    assert sorted(reads) == sorted(table["path"])
    reads.clear()
    steps = []
    second = extract(table, recipe("fmaml"), progress=lambda done, total: steps.append((done, total)))
    assert reads == []
    assert steps == [(5, 5)]
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.lengths, second.lengths)
    assert (second.x.dtype, second.lengths.dtype) == (torch.float32, torch.int64)


@pytest.mark.quick
def test_changed_content_under_the_same_name_is_noticed(table, reads):
    before = extract(table, recipe("fmaml"))
    reads.clear()
    soundfile.write(table["path"][2], GOLDEN["signal"](16000, 1.0)[::-1], 16000)
    after = extract(table, recipe("fmaml"))
    assert reads == [table["path"][2]]
    assert not torch.equal(before.x[2], after.x[2])
    assert torch.equal(before.x[3], after.x[3])


def test_a_changed_recipe_is_noticed_and_so_is_a_changed_order(table, reads):
    first = extract(table, recipe("fmaml"))
    extract(table, recipe("fmaml", trim_db=30.0))
    assert len(reads) == 10
    turned = extract(table[::-1], recipe("fmaml"))
    assert len(reads) == 10
    assert torch.equal(turned.x.flip(0), first.x)
    assert turned.digest != first.digest
    assert turned.table["path"].tolist() == table["path"].tolist()[::-1]
    assert turned.table.index.tolist() == [0, 1, 2, 3, 4]


def test_a_moved_corpus_is_found_in_the_cache(table, reads, tmp_path):
    extract(table, recipe("fmaml"))
    reads.clear()
    moved = [Path(path).rename(tmp_path / f"moved-{Path(path).name}") for path in table["path"]]
    extract(table.assign(path=[str(path) for path in moved]), recipe("fmaml"))
    assert reads == []


@pytest.mark.parametrize("name", FRAMED)
def test_the_number_of_workers_changes_no_bit(table, monkeypatch, tmp_path, name):
    found = []
    for workers in (1, 2, 5):
        monkeypatch.setenv("METASER_CACHE", str(tmp_path / f"cache-{workers}"))
        found.append(extract(table, recipe(name), workers=workers))
    assert all(torch.equal(found[0].x, other.x) for other in found[1:])
    assert all(torch.equal(found[0].lengths, other.lengths) for other in found[1:])


def test_torch_has_one_thread_in_each_worker_and_its_own_number_afterwards(table, monkeypatch):
    inside, read = [], extraction.read_waveform

    def spy(path, rate):
        inside.append((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return read(path, rate)

    monkeypatch.setattr(extraction, "read_waveform", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        extract(table, recipe("fmaml"), workers=2)
        assert set(inside) == {(1, False)}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_progress_counts_every_clip(table):
    steps = []
    extract(table, recipe("metaser"), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 5) for done in range(1, 6)]


def test_features_stay_float32_where_float64_is_the_default(table):
    torch.set_default_dtype(torch.float64)
    try:
        assert extract(table, recipe("metaser")).x.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.quick
@pytest.mark.parametrize("fault", ["missing", "not audio", "empty file", "no samples", "nan", "too loud", "folder"])
def test_a_bad_clip_is_named_in_one_line_before_anything_is_computed(table, reads, tmp_path, fault):
    bad = tmp_path / "bad.wav"
    if fault == "not audio":
        bad.write_text("this is no audio")
    elif fault == "empty file":
        bad.touch()
    elif fault == "folder":
        bad.mkdir()
    elif fault != "missing":
        samples = {"no samples": [], "nan": [0.0, np.nan] * 500, "too loud": [1e30, -1e30] * 500}[fault]
        soundfile.write(bad, np.array(samples, dtype=np.float32), 16000, subtype="FLOAT")
    with pytest.raises(UserError) as caught:
        extract(pd.concat([table, table_of([bad]), table]), recipe("fmaml"), workers=2)
    assert str(caught.value).startswith(f"{bad}: ")
    assert "\n" not in str(caught.value)
    assert reads == []


def test_no_rows_and_no_workers_are_refused(table):
    with pytest.raises(UserError, match="no utterances"):
        extract(table[:0], recipe("fmaml"))
    with pytest.raises(UserError, match="workers cannot be 0"):
        extract(table, recipe("fmaml"), workers=0)


def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(table, cache, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        extract(table, recipe("fmaml"))
    assert [path for path in cache.rglob("*") if path.is_file()] == []


# Normalisation


def feature_set(x, lengths, speakers, **columns):
    x, lengths = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(lengths)
    x = torch.where(torch.arange(x.shape[2]) < lengths[:, None, None], x, 0.0)
    rows = table_of([f"{row}.wav" for row in range(len(x))], speaker=speakers, **columns)
    return FeatureSet(
        x,
        lengths,
        rows,
        "made",
    )


@st.composite
def feature_sets(draw):
    utterances, coefficients, frames = (draw(st.integers(1, size)) for size in (5, 3, 6))
    values = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 7.25, float(np.float32(-1131.3708))])
    x = draw(arrays.arrays(np.float32, (utterances, coefficients, frames), elements=values))
    lengths = draw(st.lists(st.integers(1, frames), min_size=utterances, max_size=utterances))
    speakers = draw(st.lists(st.sampled_from(["a", "b", ""]), min_size=utterances, max_size=utterances))
    return feature_set(x, lengths, speakers)


@settings(deadline=None, max_examples=60)
@given(feature_sets(), st.sampled_from(["utterance", "speaker"]))
def test_normalised_coefficients_have_mean_0_and_variance_1_and_padding_stays_0(features, how):
    found = normalise(features, how)
    groups = [[row] for row in range(len(found.x))]
    if how == "speaker":
        groups = [list(rows) for rows in features.table.groupby("speaker").indices.values()]
    for rows in groups:
        before, after = (
            np.concatenate([each.x[row, :, : each.lengths[row]].double().numpy() for row in rows], axis=1)
            for each in (features, found)
        )
        for raw, scores in zip(before, after, strict=True):
            if raw.std() <= 1e-6 * abs(raw.mean()):  # hardly more than rounding: constant, or close to it
                assert np.isfinite(scores).all()
                assert np.ptp(raw) > 0 or (scores == 0).all()
            else:
                assert abs(scores.mean()) < 1e-5
                assert abs(scores.var() - 1) < 1e-5
    for row, length in enumerate(found.lengths):
        assert (found.x[row, :, length:] == 0).all()
    assert torch.equal(found.lengths, features.lengths)


@settings(deadline=None, max_examples=30)
@given(feature_sets())
def test_utterance_normalisation_looks_at_no_other_clip(features):
    together = normalise(features, "utterance").x
    for row in range(len(together)):
        rows = [row]
        alone = replace(features, x=features.x[rows], lengths=features.lengths[rows], table=features.table.iloc[rows])
        assert torch.equal(normalise(alone, "utterance").x[0], together[row])


def test_speaker_normalisation_is_per_corpus_and_unknown_speakers_share_their_language():
    x = torch.arange(5.0)[:, None, None] * 100 + torch.tensor([[[0.0, 1.0, 3.0]]])
    features = feature_set(
        x, [3] * 5, ["a", "a", "", "", None], corpus=["m", "n", "m", "m", "m"], language=["de", "de", "de", "it", "it"]
    )
    alone = normalise(features, "utterance").x
    found = normalise(features, "speaker").x
    torch.testing.assert_close(found[:3], alone[:3])
    assert found[3].max() < 0 < found[4].min()


def test_a_speaker_with_two_languages_is_one_speaker():
    x = torch.tensor([[[0.0, 0.0]], [[10.0, 10.0]]])
    found = normalise(feature_set(x, [2, 2], ["a", "a"], language=["de", "it"]), "speaker").x
    assert found.flatten().tolist() == [-1, -1, 1, 1]


def test_values_that_are_not_finite_are_left_out_and_become_0():
    x = torch.tensor([[[0.0, 2.0, float("nan"), float("inf")], [float("nan")] * 4]])
    for how in ("utterance", "speaker"):
        assert normalise(feature_set(x, [4], ["a"]), how).x.tolist() == [[[-1, 1, 0, 0], [0, 0, 0, 0]]]


def test_normalisation_leaves_its_input_alone_and_none_does_nothing(table):
    features = extract(table, recipe("fmaml"))
    kept = features.x.clone()
    normalise(features, "speaker")
    assert torch.equal(features.x, kept)
    assert normalise(features, "none") is features
    with pytest.raises(UserError, match="did you mean 'speaker'"):
        normalise(features, "speakers")


@pytest.mark.quick
def test_statistics_are_in_float64():
    """Two values of which float32's mean is off by more than a ten-thousandth of their deviation."""
    x = np.array([[[-6397.6821, -6446.0]]], dtype=np.float32)
    scores = normalise(feature_set(x, [2], ["a"]), "utterance").x.numpy().ravel()
    assert scores == pytest.approx([1, -1], abs=1e-6)


def test_silence_is_measured_by_all_the_speech_and_by_no_clip_of_its_own():
    x = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]], [[100.0, 300.0]]])
    features = feature_set(x, [2, 2, 2], ["a", "b", "session"], emotion=["anger", "fear", "silence"])
    found = normalise(features, "speaker").x
    speech = np.array([1.0, 3.0, 5.0, 7.0])
    assert found[:2, 0].tolist() == [[-1.0, 1.0], [-1.0, 1.0]]
    assert found[2, 0].tolist() == pytest.approx(((np.array([100, 300]) - speech.mean()) / speech.std()).tolist())


def test_a_language_is_normalised_as_a_whole_and_the_support_set_elsewhere():
    x = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]], [[2.0, 4.0]]])
    features = feature_set(x, [2, 2, 2], ["a", "b", "c"], language=["de", "de", "it"])
    found = normalise(features, "language").x
    assert found[:2].flatten().tolist() == pytest.approx(
        [-1.5 / 1.25**0.5, -0.5 / 1.25**0.5, 0.5 / 1.25**0.5, 1.5 / 1.25**0.5]
    )
    assert found[2].flatten().tolist() == [-1.0, 1.0]
    assert normalise(features, "support") is features
