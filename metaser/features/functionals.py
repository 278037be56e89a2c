"""One waveform → one vector: statistics over the utterance of MFCC, log-mel bands, energy, spectral shape, F0 and voicing.

The kind of features that classical speech emotion recognition uses (eGeMAPS: Eyben et al., IEEE Trans. Affective
Computing 7(2), 2016, is a standardised set; this one is larger and simpler). Every track has a value per hop; its
statistics are taken over all hops of the trimmed clip, those of F0 over voiced ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch.nn.functional import pad
from torchaudio import functional as audio

from metaser.features.recipes import Recipe

#: Statistics over time, by the number of values each track contributes.
STATISTICS = ("mean", "deviation", "p10", "median", "p90", "delta")

#: Those of F0, in semitones above `REFERENCE`, over voiced hops, and of voicing.
VOICE = ("f0_mean", "f0_deviation", "f0_p10", "f0_median", "f0_p90", "f0_range", "f0_delta", "f0_slope", "f0_jitter",
         "voiced", "voicing_mean", "voicing_deviation", "voiced_runs_per_s", "voiced_run_s", "log_seconds")  # fmt: skip

#: Tracks of the spectrum's shape: centroid and 85 % roll-off (log Hz), flux, and two ratios of bands in dB (alpha ratio, 50–1000
#: to 1000–5000 Hz; Hammarberg index, the peak below to the peak above 2000 Hz), as in eGeMAPS.
SHAPE = ("centroid", "rolloff", "flux", "alpha_ratio", "hammarberg")

#: Where F0 is looked for, in Hz; and 27.5 Hz, from which it is counted in semitones.
LOWEST, HIGHEST, REFERENCE = 60.0, 450.0, 27.5

#: A hop is voiced where the normalised autocorrelation reaches this, and the power is at most 35 dB below the clip's loudest.
VOICED, QUIET_DB = 0.5, 35.0


def names(recipe: Recipe) -> tuple[str, ...]:
    """What each value of `compute`'s vector is."""
    tracks = (
        [f"mfcc{n}" for n in range(recipe.coefficients)] + [f"mel{n}" for n in range(recipe.mels)] + ["energy", *SHAPE]
    )
    return (*(f"{track}_{statistic}" for track in tracks for statistic in STATISTICS), *VOICE)


def compute(waveform: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """The functionals of one trimmed clip.

    Args:
        waveform: ``(samples,)`` float32 at ``recipe.rate`` Hz, at least one sample.
        recipe: Window, hop, bands and numbers of coefficients.

    Returns:
        ``(values, 1)`` float32, in the order of `names`; finite, also for digital silence.
    """
    waveform = pad(waveform, (0, max(0, recipe.window - len(waveform))))
    window, filters, basis, hertz = _constants(recipe)
    power = audio.spectrogram(
        waveform, 0, window, recipe.window, recipe.hop, recipe.window, 2.0, False, pad_mode="constant"
    )
    decibels = audio.amplitude_to_DB(filters @ power, multiplier=10.0, amin=1e-10, db_multiplier=0.0, top_db=80.0)
    spectrum = power.double().numpy()
    energy = 10 * np.log10(spectrum.sum(axis=0, keepdims=True) + 1e-10)
    tracks = np.concatenate([(basis @ decibels).numpy(), decibels.numpy(), energy, shape(spectrum, hertz)])
    voice = voicing(waveform.double().numpy(), recipe, energy[0])
    found = np.concatenate([statistics(tracks).ravel(), voice])
    return torch.from_numpy(found.astype(np.float32))[:, None]


def statistics(tracks: np.ndarray) -> np.ndarray:
    """`STATISTICS` ``(tracks, 6)`` of ``(tracks, hops)``; ``delta`` is the mean absolute change per hop."""
    change = np.abs(np.diff(tracks, axis=1)).mean(axis=1) if tracks.shape[1] > 1 else np.zeros(len(tracks))
    low, middle, high = np.percentile(tracks, [10, 50, 90], axis=1)
    return np.stack([tracks.mean(axis=1), tracks.std(axis=1), low, middle, high, change], axis=1)


def shape(power: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """`SHAPE` ``(5, hops)`` of a power spectrogram ``(bins, hops)`` whose bins lie at ``hertz``."""
    power = np.maximum(power, 1e-8 * power.max()) + 1e-20  # 80 dB below the loudest bin, whatever the level
    total = power.sum(axis=0)
    centroid = np.log(hertz @ power / total + 1)
    rolloff = np.log(hertz[(power.cumsum(axis=0) >= 0.85 * total).argmax(axis=0)] + 1)
    flux = np.square(np.diff(power / total, axis=1, prepend=(power / total)[:, :1])).sum(axis=0)

    def band(low: float, high: float) -> np.ndarray:
        return power[(hertz >= low) & (hertz < high)]

    alpha = band(50, 1000).sum(axis=0) / band(1000, 5000).sum(axis=0)
    hammarberg = band(0, 2000).max(axis=0) / band(2000, 5000).max(axis=0)
    return np.stack([centroid, rolloff, flux, 10 * np.log10(alpha), 10 * np.log10(hammarberg)])


def voicing(waveform: np.ndarray, recipe: Recipe, energy: np.ndarray) -> np.ndarray:
    """`VOICE` of a clip; F0's own values are 0 where no hop is voiced.

    Args:
        waveform: ``(samples,)``.
        recipe: Rate and hop.
        energy: ``(hops,)`` in dB.
    """
    f0, strength = pitch(waveform, recipe.rate, recipe.hop)
    hops = min(len(f0), len(energy))
    f0, strength, energy = f0[:hops], strength[:hops], energy[:hops]
    voiced = (strength >= VOICED) & (energy >= energy.max() - QUIET_DB)
    seconds, runs = hops * recipe.hop / recipe.rate, int((np.diff(voiced, prepend=False) & voiced).sum())
    rest = [voiced.mean(), strength.mean(), strength.std(), runs / seconds, voiced.sum() * recipe.hop / recipe.rate / max(runs, 1),
            np.log(seconds)]  # fmt: skip
    if voiced.sum() < 3:
        return np.array([0.0] * (len(VOICE) - len(rest)) + rest)
    tone = 12 * np.log2(median_filter(f0, 5)[voiced] / REFERENCE)
    low, middle, high = np.percentile(tone, [10, 50, 90])
    together = np.diff(np.flatnonzero(voiced)) == 1
    change = np.abs(np.diff(tone))[together].mean() if together.any() else 0.0
    jitter = np.abs(np.diff(12 * np.log2(f0[voiced])))[together].clip(max=2).mean() if together.any() else 0.0
    slope = np.polyfit(np.flatnonzero(voiced) * recipe.hop / recipe.rate, tone, 1)[0]
    return np.array([tone.mean(), tone.std(), low, middle, high, high - low, change, slope, jitter, *rest])


def pitch(waveform: np.ndarray, rate: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """F0 in Hz and the strength of voicing between 0 and 1, each ``(hops,)``, by normalised autocorrelation.

    The autocorrelation of a windowed stretch of 40 ms is divided by the window's own (Boersma, Proc. Inst. Phonetic
    Sciences 17, 1993); of the lags between `HIGHEST` and `LOWEST` the shortest within 10 % of the best is taken, refined by
    a parabola through its neighbours.
    """
    length = round(0.04 * rate)
    window = np.hanning(length)
    padded = np.pad(waveform, (length // 2, length))
    stretches = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][: 1 + len(waveform) // hop]
    stretches = (stretches - stretches.mean(axis=1, keepdims=True)) * window
    size = 1 << (2 * length - 1).bit_length()
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[:length]
    lags = np.fft.irfft(np.abs(np.fft.rfft(stretches, size)) ** 2)[:, :length]
    first, last = int(rate / HIGHEST), min(int(rate / LOWEST), length - 2)
    correlation = lags / (lags[:, :1] + 1e-12) / np.maximum(own / own[0], 1e-3)
    searched = correlation[:, first : last + 1]
    peaks = (searched >= correlation[:, first - 1 : last]) & (searched >= correlation[:, first + 1 : last + 2])
    best = np.where(peaks, searched, 0).max(axis=1, keepdims=True)
    at = (peaks & (searched >= 0.9 * best)).argmax(axis=1) + first
    row = np.arange(len(at))
    before, here, after = (correlation[row, at + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where(np.abs(bend) > 1e-9, 0.5 * (before - after) / np.where(np.abs(bend) > 1e-9, bend, 1), 0)
    return rate / (at + shift.clip(-0.5, 0.5)), best[:, 0].clip(0, 1)


@lru_cache(maxsize=4)
def _constants(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    """Window ``(window,)``, mel filters ``(mels, bins)``, DCT-II ``(coefficients, mels)``, and the bins' frequencies in Hz."""
    bins = recipe.window // 2 + 1
    filters = audio.melscale_fbanks(bins, recipe.f_min, recipe.top, recipe.mels, recipe.rate, "slaney", "slaney")
    basis = audio.create_dct(recipe.coefficients, recipe.mels, "ortho")
    hertz = np.linspace(0, recipe.rate / 2, bins)
    return torch.hann_window(recipe.window).float(), filters.T.float().contiguous(), basis.T.float().contiguous(), hertz
