"""One waveform → one vector: statistics over the utterance of its spectrum and its voice.

The kind of features that classical speech emotion recognition uses (eGeMAPS: Eyben et al., IEEE Trans. Affective
Computing 7(2), 2016, is a standardised set; this one is larger and simpler). A track has a value per hop. MFCC, log-mel
bands, energy and spectral shape are summed up over all hops of the trimmed clip; F0, formants and MFCC once more over the
voiced ones; and of some tracks the power of their modulation is taken, which says how fast they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch.nn.functional import pad

from metaser.features.coefficients import MFCC, constants, spectrum
from metaser.features.voice import formants, pitch

#: Statistics over time, by the number of values each track contributes.
STATISTICS = ("mean", "deviation", "p10", "median", "p90", "delta")

#: Those of F0, in semitones above `REFERENCE`, over voiced hops, and of voicing.
VOICE = ("f0_mean", "f0_deviation", "f0_p10", "f0_median", "f0_p90", "f0_range", "f0_delta", "f0_slope", "f0_jitter",
         "voiced", "voicing_mean", "voicing_deviation", "voiced_runs_per_s", "voiced_run_s", "log_seconds")  # fmt: skip

#: Tracks of the spectrum's shape: centroid and 85 % roll-off (log Hz), flux, and two ratios of bands in dB (alpha ratio, 50–1000
#: to 1000–5000 Hz; Hammarberg index, the peak below to the peak above 2000 Hz), as in eGeMAPS.
SHAPE = ("centroid", "rolloff", "flux", "alpha_ratio", "hammarberg")

#: Those of each MFCC over voiced hops; ``change`` is the deviation of its gradient.
VOICED = ("mean", "deviation", "change")

#: Edges of the bands of modulation, in Hz, and the mel bands that are taken together for it.
MODULATION, TOGETHER = (0.5, 2.0, 4.0, 8.0, 16.0, 32.0), 3

#: Tracks whose correlations over voiced hops are taken, pair by pair.
CORRELATED = ("f0", "energy", "centroid", "mfcc1", "mfcc2", "mfcc3")

#: Energy as it rises and falls, in dB per hop, and where in the clip it is highest; over voiced hops, how much it changes (shimmer)
#: and varies, and how strong the voicing is.
CONTOUR = ("rise", "fall", "steepest_rise", "steepest_fall", "rising", "peak_at", "shimmer", "voiced_energy_deviation",
           "voiced_strength_p10", "voiced_strength_median", "voiced_strength_p90")  # fmt: skip

FORMANTS = ("f1", "f2", "f3", "b1", "b2", "b3")

#: Where semitones are counted from, in Hz.
REFERENCE = 27.5

#: A hop is voiced where the normalised autocorrelation reaches this, and the power is at most 35 dB below the clip's loudest.
VOICED_FROM, QUIET_DB = 0.5, 35.0

#: The fewest hops over which the statistics of voiced ones are taken; below that, over all hops.
FEWEST = 3


@dataclass(frozen=True, kw_only=True)
class Functionals(MFCC):
    """Statistics over the whole clip instead of frames: the array is ``(values, 1)``.

    Raises:
        UserError: as `MFCC`, and for another backend or padding than theirs.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, only in (("backend", "torchaudio"), ("padding", "constant"), ("log", "db"), ("fit", "crop")):
            if getattr(self, field) != only:
                raise self._refusal(field, f"functionals know {only!r} only")

    @property
    def shape(self) -> tuple[int, int]:
        """``(values, 1)``."""
        return len(names(self)), 1

    def features(self, waveform: torch.Tensor) -> tuple[torch.Tensor, int]:
        """See `Recipe.features`: ``(values, 1)`` in the order of `names`, finite also for digital silence."""
        waveform = pad(waveform, (0, max(0, self.window - len(waveform))))
        hertz = np.linspace(0, self.rate / 2, self.window // 2 + 1)
        power, decibels = spectrum(waveform, self)
        bins, samples = power.double().numpy(), waveform.double().numpy()
        energy = 10 * np.log10(bins.sum(axis=0) + 1e-10)
        cepstrum, bands = (constants(self)[2] @ decibels).double().numpy(), decibels.double().numpy()
        spread = shape(bins, hertz)
        f0, strength = pitch(samples, self.rate, self.hop)
        hops = min(len(f0), len(energy))
        f0, strength, level = f0[:hops], strength[:hops], energy[:hops]
        voiced = (strength >= VOICED_FROM) & (level >= level.max() - QUIET_DB)
        asked = voiced if voiced.sum() >= FEWEST else np.ones(hops, dtype=bool)
        tone = 12 * np.log2(f0 / REFERENCE)
        sung = np.where(asked, tone, tone[asked].mean())  # between voiced stretches, the mean
        groups = [bands[n : n + TOGETHER, :hops].mean(axis=0) for n in together(self)]
        found = np.concatenate([
            statistics(np.concatenate([cepstrum, bands, energy[None], spread])).ravel(),
            voicing(f0, strength, voiced, self.hop / self.rate),
            cepstrum[:, :hops][:, asked].mean(axis=1),
            cepstrum[:, :hops][:, asked].std(axis=1),
            gradient(cepstrum[:, :hops])[:, asked].std(axis=1),
            modulation(np.stack([level, sung, *cepstrum[1:5, :hops], *groups]), self.rate / self.hop).ravel(),
            correlations(np.stack([tone, level, spread[0, :hops], *cepstrum[1:4, :hops]])[:, asked]),
            contour(level, strength, asked),
            resonances(formants(samples, self.rate, self.hop, np.flatnonzero(voiced)[::2])),
        ])  # fmt: skip
        return torch.from_numpy(found.astype(np.float32))[:, None], 1


def names(recipe: Functionals) -> tuple[str, ...]:
    """What each value of `Functionals.features` is."""
    cepstrum, bands = [f"mfcc{n}" for n in range(recipe.coefficients)], [f"mel{n}" for n in range(recipe.mels)]
    groups = [f"mel{n}-{n + TOGETHER - 1}" for n in together(recipe)]
    modulated = ["energy", "f0", *cepstrum[1:5], *groups]
    return (
        *(f"{track}_{statistic}" for track in (*cepstrum, *bands, "energy", *SHAPE) for statistic in STATISTICS),
        *VOICE,
        *(f"voiced_{track}_{statistic}" for statistic in VOICED for track in cepstrum),
        *(f"{track}_{low:g}-{high:g}hz" for track in modulated for low, high in pairwise(MODULATION)),
        *(f"{one}~{other}" for one, other in combinations(CORRELATED, 2)),
        *CONTOUR,
        *(f"{track}_{statistic}" for statistic in ("median", "deviation", "p90") for track in FORMANTS),
    )


def together(recipe: Functionals) -> range:
    """The first of each group of mel bands that are taken together."""
    return range(0, recipe.mels - TOGETHER + 1, TOGETHER)


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


def voicing(f0: np.ndarray, strength: np.ndarray, voiced: np.ndarray, step: float) -> np.ndarray:
    """`VOICE` of a clip; F0's own values are 0 where hardly a hop is voiced.

    Args:
        f0: ``(hops,)`` in Hz.
        strength: ``(hops,)``, of voicing.
        voiced: ``(hops,)``, whether there is a voice.
        step: From one hop to the next, in s.
    """
    seconds, runs = len(f0) * step, int((np.diff(voiced, prepend=False) & voiced).sum())
    rest = [
        voiced.mean(),
        strength.mean(),
        strength.std(),
        runs / seconds,
        voiced.sum() * step / max(runs, 1),
        np.log(seconds),
    ]
    if voiced.sum() < FEWEST:
        return np.array([0.0] * (len(VOICE) - len(rest)) + rest)
    tone = 12 * np.log2(median_filter(f0, 5)[voiced] / REFERENCE)
    low, middle, high = np.percentile(tone, [10, 50, 90])
    together = np.diff(np.flatnonzero(voiced)) == 1
    change = np.abs(np.diff(tone))[together].mean() if together.any() else 0.0
    jitter = np.abs(np.diff(12 * np.log2(f0[voiced])))[together].clip(max=2).mean() if together.any() else 0.0
    slope = np.polyfit(np.flatnonzero(voiced) * step, tone, 1)[0]
    return np.array([tone.mean(), tone.std(), low, middle, high, high - low, change, slope, jitter, *rest])


def gradient(tracks: np.ndarray) -> np.ndarray:
    """Central differences per hop of ``(…, hops)``; 0 where there is but one hop."""
    return np.gradient(tracks, axis=-1) if tracks.shape[-1] > 1 else np.zeros_like(tracks)


def modulation(tracks: np.ndarray, rate: float) -> np.ndarray:
    """The log power ``(tracks, bands)`` of ``(tracks, hops)`` around their means, in the bands between `MODULATION`'s edges.

    Args:
        tracks: The values.
        rate: Hops per second.
    """
    size = 1 << max(10, (tracks.shape[1] - 1).bit_length())
    power = np.abs(np.fft.rfft(tracks - tracks.mean(axis=1, keepdims=True), size)) ** 2 / tracks.shape[1] * 1024 / size
    hertz = np.fft.rfftfreq(size, 1 / rate)
    bands = [power[:, (hertz >= low) & (hertz < high)].sum(axis=1) for low, high in pairwise(MODULATION)]
    return np.log(np.stack(bands, axis=1) + 1e-3)


def correlations(tracks: np.ndarray) -> np.ndarray:
    """Pearson's correlations of ``(tracks, hops)``, pair by pair; 0 with a track that does not vary."""
    centred = tracks - tracks.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(centred).sum(axis=1))
    unit = centred / np.where(length > 1e-9, length, np.inf)[:, None]
    found: np.ndarray = unit @ unit.T
    return found[np.triu_indices(len(tracks), 1)]


def contour(energy: np.ndarray, strength: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """`CONTOUR` of energy in dB and strength of voicing, ``(hops,)`` each, with some hop that counts as voiced."""
    change, own = gradient(energy), energy[voiced]
    up, down = change[change > 0], change[change < 0]
    return np.array([
        up.mean() if len(up) else 0.0, down.mean() if len(down) else 0.0, *np.percentile(change, [95, 5]), (change > 0).mean(),
        energy.argmax() / len(energy), np.abs(np.diff(own)).mean() if len(own) > 1 else 0.0, own.std(),
        *np.percentile(strength[voiced], [10, 50, 90]),
    ])  # fmt: skip


def resonances(found: np.ndarray) -> np.ndarray:
    """Median, deviation and 90th percentile of ``(hops, 6)`` formants, one after another; 0 where there are hardly any."""
    if len(found) < FEWEST:
        return np.zeros(3 * len(FORMANTS))
    return np.concatenate([np.median(found, axis=0), found.std(axis=0), np.percentile(found, 90, axis=0)])
