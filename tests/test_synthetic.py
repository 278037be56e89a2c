"""The corpora that metaser makes itself, and the linear probe that measures them."""

from __future__ import annotations

import signal
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from metaser.baselines import linear
from metaser.corpora import generated, silence, synthetic
from metaser.corpora.base import EMOTIONS
from metaser.corpora.generated import GeneratedCorpus
from metaser.corpora.silence import Silence
from metaser.corpora.synthetic import LANGUAGES, SPEAKERS, Synthetic, synthesise
from metaser.runtime.errors import UserError
from support.limit import LIMIT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METASER_CACHE", str(tmp_path))
    return tmp_path / "corpora"


def few(count: int = 24) -> dict[str, generated.Render]:
    """Some clips of every language, evenly out of the plan."""
    plan = Synthetic().plan()
    return {name: plan[name] for name in list(plan)[:: len(plan) // count]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The corpora: names, counts, bytes.


@pytest.mark.quick
@pytest.mark.parametrize("corpus", [Synthetic(), Silence()])
def test_every_planned_name_fits_the_grammar_and_the_expected_counts(corpus: GeneratedCorpus) -> None:
    said = [corpus.parse(PurePosixPath(name)) for name in corpus.plan()]
    assert None not in said
    assert Counter(one.emotion for one in said) == corpus.expected.emotions
    assert Counter(one.speaker for one in said) == corpus.expected.speakers
    assert len(said) == corpus.expected.total
    assert len({PurePosixPath(name).stem for name in corpus.plan()}) == len(said)


def test_no_class_is_lacking_and_each_has_enough_clips() -> None:
    said = [Synthetic().parse(PurePosixPath(name)) for name in Synthetic().plan()]
    per_class = Counter((one.language, one.emotion) for one in said)
    assert len(LANGUAGES) >= 4
    assert set(per_class) == {(language, emotion) for language in LANGUAGES for emotion in synthetic.EMOTIONS}
    assert min(per_class.values()) == max(per_class.values()) == 72
    assert set(synthetic.EMOTIONS) <= set(EMOTIONS)
    assert Counter(one.gender for one in said)["f"] == len(said) / 2
    texts = pd.DataFrame(said).groupby("text")["emotion"].nunique()
    assert (texts == len(synthetic.EMOTIONS)).all()  # What is said tells nothing of the emotion.


@pytest.mark.quick
@pytest.mark.parametrize(
    "name",
    ["x-ako/akof1_anger_s3_9.flac", "x-bel/akof1_anger_s3_09.flac", "x-zzz/zzzf1_anger_s3_09.flac",
     "x-ako/akof1_boredom_s3_09.flac", "akof1_anger_s3_09.flac", "x-ako/akof1_anger_s3_09.wav"],
)  # fmt: skip
def test_other_names_do_not_fit(name: str) -> None:
    assert Synthetic().parse(PurePosixPath(name)) is None


def test_silence_sessions_beyond_the_last_do_not_fit() -> None:
    assert Silence().parse(PurePosixPath("session11/session11_silence_00.flac")) is not None
    assert Silence().parse(PurePosixPath("session12/session12_silence_00.flac")) is None
    assert Silence().parse(PurePosixPath("session01/session02_silence_00.flac")) is None


def test_ensure_writes_what_scan_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = few(12)
    monkeypatch.setattr(Synthetic, "plan", lambda self: plan)
    calls: list[tuple[int, int]] = []
    folder = Synthetic().locate(None, lambda done, total: calls.append((done, total)))
    assert calls == [(done, len(plan)) for done in range(1, len(plan) + 1)]
    scan = Synthetic().scan(folder)
    assert len(scan.table) == len(plan)
    assert not scan.misnamed
    for name, render in plan.items():
        info = soundfile.info(folder / name)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        # Written in steps of 1/32767, read in steps of 1/32768: half a step of rounding, and up to one for the difference.
        np.testing.assert_allclose(soundfile.read(folder / name)[0], render()[0], atol=1.5 / 32768)
    assert Synthetic().locate(None, lambda done, total: pytest.fail("made twice")) == folder


def test_same_bytes_with_any_workers_and_order() -> None:
    plan = {**few(12), "silence.flac": silence.Silence().plan()["session03/session03_silence_17.flac"]}
    one = generated.ensure_corpus("one", plan, workers=1)
    three = generated.ensure_corpus("three", dict(reversed(plan.items())), workers=3)
    assert contents(one) == contents(three)


def test_clips_do_not_depend_on_what_was_made_before() -> None:
    script = "from metaser.corpora.synthetic import synthesise as s; import sys, zlib;"
    script += "print(zlib.crc32(s('x-dor', 'm2', 'fear', 7)[0].tobytes()))"
    alone, again = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=LIMIT).stdout
        for _ in "ab"
    )
    assert alone == again
    assert int(alone) == zlib.crc32(synthesise("x-dor", "m2", "fear", 7)[0].tobytes())


@pytest.mark.quick
def test_unknown_language_speaker_or_emotion_is_refused() -> None:
    for wrong in (("de", "f1", "anger", 0), ("x-ako", "f9", "anger", 0), ("x-ako", "f1", "boredom", 0)):
        with pytest.raises(ValueError, match="not in"):
            synthesise(*wrong)


# The cache: whole or absent.

BUILD = """
import os, signal, sys
from metaser.corpora import generated, synthetic
plan = synthetic.Synthetic().plan()
plan = {name: plan[name] for name in list(plan)[:: len(plan) // 24]}
def progress(done, total):
    if sys.argv[1] == "die" and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
generated.ensure_corpus("few", plan, progress)
"""


def test_killed_build_leaves_nothing_half_written_and_is_made_anew(cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", BUILD, "die"], check=False, timeout=LIMIT)
    assert killed.returncode == -signal.SIGKILL
    assert not (cache / "few").exists()
    plan = few()
    folder = generated.ensure_corpus("few", plan)
    assert set(contents(folder)) == {*plan, generated.MARKER}
    assert not list(cache.glob(".few.*.tmp"))


def test_two_processes_at_once_make_one_whole_corpus(cache: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", BUILD, "live"]) for _ in range(2)]
    assert [process.wait(LIMIT) for process in both] == [0, 0]
    assert generated.is_whole(cache / "few", few())
    assert not list(cache.glob(".few.*.tmp"))


@pytest.mark.parametrize("damage", ["truncated", "removed", "no marker", "garbled marker", "marker of a list"])
def test_damaged_cache_is_made_anew(damage: str) -> None:
    plan = few(8)
    folder = generated.ensure_corpus("few", plan)
    before = contents(folder)
    victim = folder / next(iter(plan))
    match damage:
        case "truncated":
            victim.write_bytes(victim.read_bytes()[:100])
        case "removed":
            victim.unlink()
        case "no marker":
            (folder / generated.MARKER).unlink()
        case "garbled marker":
            (folder / generated.MARKER).write_text("{")
        case "marker of a list":
            (folder / generated.MARKER).write_text("[]")
    assert contents(generated.ensure_corpus("few", plan)) == before


def test_failure_leaves_nothing_and_keeps_its_own_message(cache: Path) -> None:
    def broken() -> tuple[np.ndarray, int]:
        raise ZeroDivisionError("a mistake in the synthesis")

    with pytest.raises(ZeroDivisionError, match="a mistake"):
        generated.ensure_corpus("few", {**few(8), "broken.flac": broken})
    assert [path.name for path in cache.iterdir()] == [".few.lock"]


def test_unwritable_cache_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("METASER_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="METASER_CACHE"):
        silence.Silence().locate(None)


def test_digest_follows_the_source() -> None:
    assert generated.source_digest(synthetic, generated) != generated.source_digest(silence, generated)
    assert generated.source_digest(synthetic) == generated.source_digest(synthetic)


# The sound: what carries an emotion is there, and silence carries none.


def pitch(samples: np.ndarray) -> np.ndarray:
    """F0 in Hz of the clearly periodic frames, by autocorrelation: ``(voiced frames,)``."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 640)[::320]
    loud = frames[np.sqrt((frames**2).mean(1)) > 0.3 * np.sqrt((samples**2).mean())] * np.hanning(640)
    power = np.abs(np.fft.rfft(loud, 2048)) ** 2
    correlation = np.fft.irfft(power)[:, :400] / np.fft.irfft(np.abs(np.fft.rfft(np.hanning(640), 2048)) ** 2)[:400]
    correlation = correlation / correlation[:, :1]
    lags = np.arange(16000 // 600, 16000 // 60)
    middle = correlation[:, lags]
    peak = (middle > correlation[:, lags - 1]) & (middle >= correlation[:, lags + 1])
    best = (middle * peak).max(1)
    # The first peak nearly as good as the best: twice the period fits as well.
    lag = lags[(peak & (middle > 0.9 * best[:, None])).argmax(1)]
    return 16000 / lag[best > 0.6]


def measure(samples: np.ndarray) -> dict[str, float]:
    """Median F0 and its spread (semitones), level (dB), seconds, energy above against below 1 kHz (dB)."""
    semitones = 12 * np.log2(pitch(samples))
    near = semitones[np.abs(semitones - np.median(semitones)) < 7]  # Leaves out the estimator's wrong octaves.
    power = np.abs(np.fft.rfft(samples)) ** 2
    edge = len(power) // 8
    return {
        "f0": float(np.median(semitones)),
        "spread": float(np.subtract(*np.percentile(near, [80, 20]))),
        "level": float(10 * np.log10(np.mean(samples**2))),
        "seconds": len(samples) / 16000,
        "tilt": float(10 * np.log10(power[edge:].sum() / power[:edge].sum())),
    }


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return pd.DataFrame(
        {"language": language, "speaker": speaker, "emotion": emotion}
        | measure(synthesise(language, speaker, emotion, take)[0])
        for language in LANGUAGES
        for speaker in ("f1", "f3", "m1", "m2")
        for emotion in ("anger", "neutral", "sadness", "fear")
        for take in range(12)
    )


@pytest.mark.slow
def test_each_speaker_shows_anger_and_sadness_in_level_and_tilt(measured: pd.DataFrame) -> None:
    means = measured.groupby(["emotion", "language", "speaker"]).mean()
    for cue in ("level", "tilt"):
        assert (means.loc["anger", cue] > means.loc["sadness", cue]).all(), cue


def test_each_language_shows_the_published_order_of_the_cues(measured: pd.DataFrame) -> None:
    means = measured.drop(columns="speaker").groupby(["emotion", "language"]).mean()
    anger, neutral, sadness, fear = (means.loc[name] for name in ("anger", "neutral", "sadness", "fear"))
    for cue in ("f0", "spread", "level", "tilt"):
        assert (anger[cue] > sadness[cue]).all(), cue
    for cue in ("f0", "level", "tilt"):
        assert (anger[cue] > neutral[cue]).all(), cue
        assert (neutral[cue] > sadness[cue]).all(), cue
    assert (anger["seconds"] < sadness["seconds"]).all()
    assert (fear["seconds"] < sadness["seconds"]).all()
    assert (fear["f0"] > neutral["f0"]).all()


def test_women_speak_higher(measured: pd.DataFrame) -> None:
    neutral = measured[measured["emotion"] == "neutral"].groupby("speaker")["f0"].mean()
    assert neutral[["f1", "f3"]].min() > neutral[["m1", "m2"]].max() + 4


def test_clips_vary_within_a_class_and_are_sound(measured: pd.DataFrame) -> None:
    assert (measured.groupby(["emotion", "language", "speaker"])[["level", "tilt"]].std() > 0.5).all().all()
    assert measured["seconds"].between(0.8, 4.0).all()
    assert measured["seconds"].median() == pytest.approx(1.85, abs=0.35)
    for speaker in SPEAKERS:
        samples, rate = synthesise("x-esh", speaker, "happiness", 3)
        assert (samples.dtype, rate, samples.ndim) == (np.float32, 16000, 1)
        assert np.isfinite(samples).all()
        assert abs(samples.mean()) < 0.05 * samples.std()  # No steady pressure, as from any microphone.
        assert np.abs(samples).max() <= 1


def test_silence_has_no_voice_and_no_level_of_its_own(measured: pd.DataFrame) -> None:
    clips = [silence.synthesise(session, take)[0] for session in range(silence.SESSIONS) for take in range(0, 50, 5)]
    # A voice is periodic above the mains' lowest harmonics, and its period moves.
    moving = [len(found) > 4 and np.std(12 * np.log2(found)) > 0.3 for found in map(pitch_above_hum, clips)]
    spoken = [synthesise(language, "f2", "neutral", take)[0] for language in LANGUAGES for take in range(4)]
    voiced = [len(found) > 4 and np.std(12 * np.log2(found)) > 0.3 for found in map(pitch_above_hum, spoken)]
    assert np.mean(moving) < 0.15
    assert np.mean(voiced) > 0.9
    levels = np.array([10 * np.log10(np.mean(clip.astype(np.float64) ** 2)) for clip in clips])
    assert levels.min() < -85  # Near-digital silence ...
    assert np.mean(levels > measured["level"].quantile(0.02)) > 0.05  # ... to noise as loud as faint speech.
    assert all(1.0 <= len(clip) / 16000 <= 3.5 and np.abs(clip).max() <= 1 for clip in clips)


def pitch_above_hum(samples: np.ndarray) -> np.ndarray:
    """`pitch` without what lies below 150 Hz and without periods longer than a woman's."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / 16000) < 150] = 0
    found = pitch(np.fft.irfft(spectrum, len(samples)))
    return found[(found > 130) & (found < 400)]


def test_silence_sessions_differ_and_clips_within_one_too() -> None:
    def level(session: int, take: int) -> float:
        return float(10 * np.log10(np.mean(silence.synthesise(session, take)[0].astype(np.float64) ** 2)))

    levels = pd.DataFrame([(session, level(session, take)) for session in range(12) for take in range(20)])
    assert levels.groupby(0)[1].std().min() > 4
    assert levels.groupby(0)[1].max().std() > 2


# The linear probe.


def gaussian(
    shift: float, seed: int = 0, languages: int = 3, emotions: int = 2, clips: int = 40, speakers: int = 5
) -> tuple[np.ndarray, pd.DataFrame]:
    """Frames whose mean along coefficient ``k`` says, ``shift`` standard deviations apart, whether the emotion is k."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"x-{language}", f"{language}-{clip % speakers}", f"e{emotion}")
        for language in range(languages)
        for emotion in range(emotions)
        for clip in range(clips * speakers)
    ]
    table = pd.DataFrame(rows, columns=["language", "speaker", "emotion"])
    centre = np.eye(emotions)[table["emotion"].str[1:].astype(int)] * shift / np.sqrt(2)
    offset = centre + rng.standard_normal((len(rows), emotions))
    return offset[:, :, None] + np.array([-1.0, 0.0, 1.0]), table


def test_statistics_ignore_padding() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 9))
    lengths = np.array([9, 5, 1])
    padded = np.where(np.arange(9) < lengths[:, None, None], x, np.nan)
    found = linear.utterance_statistics(padded, lengths)
    assert found.shape == (3, 8)
    for row, count in enumerate(lengths):
        np.testing.assert_allclose(found[row, :4], x[row, :, :count].mean(1))
        np.testing.assert_allclose(found[row, 4:], x[row, :, :count].std(1))
    np.testing.assert_allclose(linear.utterance_statistics(x)[:, 4:], x.std(2))


@pytest.mark.parametrize("lengths", [[0, 1, 1], [1, 1, 10], [1, 1]])
def test_bad_lengths_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths"):
        linear.utterance_statistics(np.zeros((3, 4, 9)), lengths)


def test_bad_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="coefficients"):
        linear.utterance_statistics(np.zeros((3, 4)))


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_probe_reaches_the_bayes_rate_on_gaussians(shift: float) -> None:
    x, table = gaussian(shift)
    found = linear.probe(x, table)
    assert list(found.columns) == list(linear.COLUMNS)
    assert found["protocol"].tolist() == ["within"] * 3 + ["across"] * 3
    # Two Gaussians `shift` apart with equal priors: the best accuracy is Phi(shift / 2).
    assert found["accuracy"].mean() == pytest.approx(norm.cdf(shift / 2), abs=0.03)
    assert (found["chance"] == 0.5).all()
    assert (found["speakers"] == 5).all()
    assert (found["clips"] == 400).all()


@pytest.mark.quick
def test_scores_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    guess = np.where(rng.random(300) < 0.6, truth, rng.choice(["a", "b", "c", "d"], 300))
    speakers = rng.choice(["s1", "s2", "s3", "s4"], 300)
    found = linear.scores(truth, guess, speakers)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found["chance"] == pytest.approx(np.mean(truth == "a"))
    kept = guess != "d"  # balanced_accuracy_score warns of guesses that are in no truth; recall is the same by hand.
    recalls = [np.mean(guess[truth == name] == name) for name in "abc"]
    assert found["uar"] == pytest.approx(np.mean(recalls))
    assert linear.scores(truth[kept], guess[kept], speakers[kept])["uar"] == pytest.approx(
        balanced_accuracy_score(truth[kept], guess[kept])
    )
    each = np.array([np.mean(truth[speakers == name] == guess[speakers == name]) for name in np.unique(speakers)])
    assert found["ci95"] == pytest.approx(3.182446 * each.std(ddof=1) / 2, rel=1e-5)
    assert np.isnan(linear.scores(truth, guess, np.full(300, "s1"))["ci95"])


def test_across_languages_is_a_plain_leave_one_language_out() -> None:
    x, table = gaussian(1.5, languages=2, emotions=3, clips=10)
    features = linear.utterance_statistics(x)
    test = (table["language"] == "x-0").to_numpy()
    scaler = StandardScaler().fit(features[~test])
    model = LogisticRegression(max_iter=2000).fit(scaler.transform(features[~test]), table["emotion"][~test])
    wanted = model.score(scaler.transform(features[test]), table["emotion"][test])
    assert linear.across_languages(features, table)["accuracy"][0] == pytest.approx(wanted)


def test_within_language_never_trains_on_the_tested_speaker() -> None:
    # Labels that only the speaker tells: seen speakers would give 100 %, unseen ones give nothing.
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(8), 50)
    table = pd.DataFrame(
        {"language": "x", "speaker": speakers.astype(str), "emotion": np.array(["a", "b"])[speakers % 2]}
    )
    features = np.eye(8)[speakers] + 0.01 * rng.standard_normal((400, 8))
    assert linear.within_language(features, table, folds=8)["accuracy"][0] < 0.6


def test_row_order_and_index_do_not_matter() -> None:
    x, table = gaussian(1.0, clips=8)
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = table.iloc[order]
    pd.testing.assert_frame_equal(linear.probe(x, table), linear.probe(x[order], shuffled), atol=0.01)


def test_only_emotions_in_common_are_scored_across() -> None:
    x, table = gaussian(1.0, languages=2, emotions=3, clips=6)
    keep = ~((table["language"] == "x-0") & (table["emotion"] == "e2")).to_numpy()
    found = linear.across_languages(linear.utterance_statistics(x)[keep], table[keep])
    assert found["clips"].tolist() == [60, 60]


def test_errors_name_what_is_lacking() -> None:
    x, table = gaussian(1.0, clips=2)
    with pytest.raises(UserError, match="lacks speaker"):
        linear.probe(x, table.drop(columns="speaker"))
    with pytest.raises(UserError, match=r"29 feature rows for 60"):
        linear.probe(x[:29], table)
    with pytest.raises(UserError, match="language x-0"):
        linear.probe(x, table.assign(speaker="one"))
    with pytest.raises(UserError, match="two languages"):
        linear.across_languages(linear.utterance_statistics(x), table.assign(language="x"))


def test_the_synthetic_corpus_is_learnable_and_not_trivial(measured: pd.DataFrame) -> None:
    part = measured.assign(speaker=measured["language"] + measured["speaker"])
    known = linear.within_language(part[["f0", "spread", "level", "seconds", "tilt"]].to_numpy(), part)
    assert 0.45 < known["accuracy"].mean() < 0.95
    for single in ("level", "seconds"):
        alone = linear.within_language(part[[single]].to_numpy(), part)["accuracy"].mean()
        assert alone < known["accuracy"].mean() - 0.1, single
