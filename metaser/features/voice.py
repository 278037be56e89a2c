"""One waveform → its voice: F0, voicing and formants, hop by hop."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_toeplitz

#: Where F0 is looked for, in Hz.
LOWEST, HIGHEST = 60.0, 450.0

#: Poles of the linear prediction, its pre-emphasis, and where a formant may lie, in Hz, with its widest bandwidth.
POLES, PREEMPHASIS = 16, 0.97
FORMANT_RANGE, WIDEST = (150.0, 5500.0), 600.0


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


def formants(waveform: np.ndarray, rate: int, hop: int, hops: np.ndarray) -> np.ndarray:
    """The first three formants ``(found, 6)``: log frequencies (Hz), then log bandwidths (1 + Hz); by linear prediction.

    Of windows of 25 ms around the given hops, those that have three poles in `FORMANT_RANGE`, narrower than `WIDEST`.

    Args:
        waveform: ``(samples,)``.
        rate: Its rate in Hz.
        hop: In samples.
        hops: ``(asked,)`` numbers of hops.
    """
    length = round(0.025 * rate)
    sharp = np.append(waveform[:1], waveform[1:] - PREEMPHASIS * waveform[:-1])
    window, found = np.hamming(length), []
    for start in hops * hop - length // 2:
        stretch = sharp[max(0, start) : max(0, start) + length]
        if len(stretch) < length or not stretch.any():
            continue
        stretch = stretch * window
        lags = np.correlate(stretch, stretch, "full")[length - 1 : length + POLES]
        lags[0] *= 1.0001  # so that the equations always have a solution
        roots = np.roots(np.concatenate([[1.0], solve_toeplitz(lags[:POLES], -lags[1:])]))
        roots = roots[roots.imag > 0]
        hertz, width = np.angle(roots) * rate / (2 * np.pi), -np.log(np.abs(roots)) * rate / np.pi
        kept = (hertz > FORMANT_RANGE[0]) & (hertz < FORMANT_RANGE[1]) & (width < WIDEST) & (width > 0)
        order = np.argsort(hertz[kept])[:3]
        if len(order) == 3:
            found.append(np.log(np.concatenate([hertz[kept][order], 1 + width[kept][order]])))
    return np.array(found).reshape(-1, 6)
