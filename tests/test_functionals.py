"""Utterance functionals against tones and statistics that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from metaser.features import compute, functionals, recipe
from metaser.features.voice import FORMANT_RANGE, POLES, PREEMPHASIS, WIDEST, formants, pitch
from metaser.runtime.errors import UserError

pytestmark = pytest.mark.arithmetic

RECIPE = recipe("functionals")


def tone(hertz: float, seconds: float = 1.0, partials: int = 8) -> torch.Tensor:
    """A voice-like tone: harmonics that fall off as 1/k, at a level of a tenth."""
    at = np.arange(round(seconds * RECIPE.rate)) / RECIPE.rate
    wave = sum(np.sin(2 * np.pi * hertz * k * at + k) / k for k in range(1, partials + 1))
    return torch.from_numpy(0.1 * np.asarray(wave)).float()


def named(waveform: torch.Tensor) -> dict[str, float]:
    values, valid = compute(waveform, RECIPE)
    assert valid == 1
    assert values.shape == RECIPE.shape
    return dict(zip(functionals.names(RECIPE), values[:, 0].tolist(), strict=True))


@pytest.mark.quick
@given(st.floats(75, 400))
@settings(max_examples=30)
def test_f0_of_a_tone_is_found(hertz: float) -> None:
    found = named(tone(hertz))
    assert found["f0_median"] == pytest.approx(12 * np.log2(hertz / 27.5), abs=0.1), "in semitones"
    assert found["f0_deviation"] < 0.3
    assert found["voiced"] > 0.95


def test_a_gliding_voice_has_a_slope() -> None:
    at = np.arange(RECIPE.rate) / RECIPE.rate
    phase = 2 * np.pi * 120 * (2**at - 1) / np.log(2)  # an octave a second, from 120 Hz
    found = named(torch.from_numpy(0.1 * sum(np.sin(k * phase) / k for k in range(1, 6))).float())
    assert found["f0_slope"] == pytest.approx(12, abs=0.5)
    assert found["f0_range"] == pytest.approx(0.8 * 12, abs=0.7)


def test_noise_and_silence_have_no_voice_and_stay_finite() -> None:
    noise = torch.randn(RECIPE.rate, generator=torch.Generator().manual_seed(0)) * 0.1
    for waveform in (noise, torch.zeros(RECIPE.rate), torch.zeros(1), noise[:50]):
        found = named(waveform)
        assert np.isfinite(list(found.values())).all()
        assert found["voiced"] < 0.1
        assert found["f0_mean"] == 0 or found["voiced"] > 0


@pytest.mark.quick
def test_a_louder_clip_has_more_energy_and_the_same_everything_else_but_levels() -> None:
    soft, loud = named(tone(150)), named(10 * tone(150))
    assert loud["energy_mean"] - soft["energy_mean"] == pytest.approx(20, abs=1e-3)
    for name in (
        *functionals.VOICE,
        "centroid_mean",
        "rolloff_mean",
        "flux_mean",
        "alpha_ratio_mean",
        "hammarberg_mean",
    ):
        assert loud[name] == pytest.approx(soft[name], abs=1e-3)


@given(st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=30)
def test_statistics_are_numpys(hops: int, seed: int) -> None:
    tracks = np.random.default_rng(seed).normal(size=(3, hops))
    found = dict(zip(functionals.STATISTICS, functionals.statistics(tracks).T, strict=True))
    assert found["mean"] == pytest.approx(tracks.mean(axis=1))
    assert found["deviation"] == pytest.approx(tracks.std(axis=1))
    assert found["median"] == pytest.approx(np.median(tracks, axis=1))
    assert found["p90"] == pytest.approx(np.quantile(tracks, 0.9, axis=1))
    change = np.abs(tracks[:, 1:] - tracks[:, :-1]).mean(axis=1) if hops > 1 else np.zeros(3)
    assert found["delta"] == pytest.approx(change)


@given(st.floats(400, 800), st.floats(1000, 1700), st.floats(2200, 3000))
@settings(max_examples=15)
def test_formants_are_the_resonances_of_the_vocal_tract(first: float, second: float, third: float) -> None:
    wave = np.zeros(RECIPE.rate)
    wave[:: RECIPE.rate // 110] = 1.0  # a voice of 110 Hz, falling off as voices do
    wave = lfilter([1.0], [1.0, -0.97], wave)
    for hertz in (first, second, third):
        radius, angle = np.exp(-np.pi * 80 / RECIPE.rate), 2 * np.pi * hertz / RECIPE.rate
        wave = lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], wave)
    found = named(torch.from_numpy(0.5 * wave / np.abs(wave).max()).float())
    for name, hertz in (("f1", first), ("f2", second), ("f3", third)):
        assert np.exp(found[f"{name}_median"]) == pytest.approx(hertz, rel=0.1)


@pytest.mark.parametrize(("hertz", "band"), [(1.0, "0.5-2hz"), (3.0, "2-4hz"), (6.0, "4-8hz"), (12.0, "8-16hz")])
def test_modulation_is_found_in_its_band(hertz: float, band: str) -> None:
    at = np.arange(3 * RECIPE.rate) / RECIPE.rate
    level = torch.from_numpy(10 ** (0.3 * np.sin(2 * np.pi * hertz * at))).float()
    found = named(tone(150, seconds=3) * level)
    energies = {name: value for name, value in found.items() if name.startswith("energy_") and name.endswith("hz")}
    assert len(energies) == 5
    assert max(energies, key=lambda name: energies[name]) == f"energy_{band}"


@given(st.integers(2, 60), st.integers(0, 2**31))
@settings(max_examples=30)
def test_correlations_are_numpys(hops: int, seed: int) -> None:
    tracks = np.random.default_rng(seed).normal(size=(4, hops))
    wanted = np.corrcoef(tracks)[np.triu_indices(4, 1)]
    assert functionals.correlations(tracks) == pytest.approx(wanted)
    tracks[0] = 5.0
    assert (functionals.correlations(tracks)[:3] == 0).all(), "what does not vary goes along with nothing"


def test_a_voice_that_swells_rises_and_is_loudest_at_the_end() -> None:
    swelling = tone(150, seconds=1) * torch.logspace(-1, 0, RECIPE.rate)
    found = named(swelling)
    assert 0.15 < found["rise"] < 0.3, "20 dB in 100 hops, and a few more at the edge"
    assert found["peak_at"] > 0.9
    assert found["rising"] > 0.9
    assert -0.3 < named(swelling.flip(0))["fall"] < -0.15


@pytest.mark.quick
def test_functionals_are_computed_one_way_only() -> None:
    with pytest.raises(
        UserError, match="backend cannot be 'python_speech_features'; functionals know 'torchaudio' only"
    ):
        recipe("functionals", backend="python_speech_features")


def test_formants_are_those_of_each_stretch_alone() -> None:
    """NumPy's and SciPy's own routines, one stretch at a time, with stretches of silence and at both ends."""
    rng = np.random.default_rng(0)
    wave = lfilter([1.0], [1.0, -1.6, 1.2, -0.5], rng.normal(size=20_000))
    wave[8000:12_000] = 0
    hops = np.arange(0, 126, 2)
    found, length = formants(wave, 16000, 160, hops), 400
    sharp = np.append(wave[:1], wave[1:] - PREEMPHASIS * wave[:-1])
    expected = []
    for start in np.maximum(hops * 160 - length // 2, 0):
        stretch = sharp[start : start + length]
        if len(stretch) < length or not stretch.any():
            continue
        lags = np.correlate(stretch * np.hamming(length), stretch * np.hamming(length), "full")[length - 1 :]
        lags[0] *= 1.0001
        roots = np.roots([1, *solve_toeplitz(lags[:POLES], -lags[1 : POLES + 1])])
        poles = [(np.angle(root) * 16000 / (2 * np.pi), -np.log(abs(root)) * 16000 / np.pi)
                 for root in roots if root.imag > 0]  # fmt: skip
        kept = sorted((hertz, width) for hertz, width in poles
                      if FORMANT_RANGE[0] < hertz < FORMANT_RANGE[1] and 0 < width < WIDEST)[:3]  # fmt: skip
        if len(kept) == 3:
            expected.append(np.log([*(hertz for hertz, _ in kept), *(1 + width for _, width in kept)]))
    assert len(expected) > 8
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_silence_has_no_formants() -> None:
    assert formants(np.zeros(16000), 16000, 160, np.arange(50)).shape == (0, 6)
    assert formants(np.ones(100), 16000, 160, np.arange(1)).shape == (0, 6)


@given(st.integers(1, 300), st.integers(0, 2**31))
@settings(max_examples=20)
def test_a_voice_has_the_same_pitch_however_many_stretches_are_taken_at_a_time(hops: int, seed: int) -> None:
    wave = np.random.default_rng(seed).normal(size=hops * 160)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for block in (1, 64, 1000):
            patch.setattr("metaser.features.voice.BLOCK", block)
            found.append(pitch(wave, 16000, 160))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-8)
