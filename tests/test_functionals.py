"""Utterance functionals against tones and statistics that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaser.errors import UserError
from metaser.features import compute, functionals, recipe

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


def test_functionals_are_computed_one_way_only() -> None:
    with pytest.raises(
        UserError, match="backend cannot be 'python_speech_features'; functionals know 'torchaudio' only"
    ):
        recipe("functionals", backend="python_speech_features")
