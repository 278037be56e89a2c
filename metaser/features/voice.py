"""One waveform → its voice: F0, voicing and formants, hop by hop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft

#: Where F0 is looked for, in Hz.
LOWEST, HIGHEST = 60.0, 450.0

#: Poles of the linear prediction, its pre-emphasis, and where a formant may lie, in Hz, with its widest bandwidth.
POLES, PREEMPHASIS = 16, 0.97
FORMANT_RANGE, WIDEST = (150.0, 5500.0), 600.0

#: Stretches of a clip that are worked on at a time: as many as the processor's cache holds.
BLOCK = 64


def pitch(waveform: np.ndarray, rate: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """F0 in Hz and the strength of voicing between 0 and 1, each ``(hops,)``, by normalised autocorrelation.

    The autocorrelation of a windowed stretch of 40 ms is divided by the window's own (Boersma, Proc. Inst. Phonetic
    Sciences 17, 1993); of the lags between `HIGHEST` and `LOWEST` the shortest within 10 % of the best is taken, refined by
    a parabola through its neighbours.
    """
    length = round(0.04 * rate)
    window = np.hanning(length)
    first, last = int(rate / HIGHEST), min(int(rate / LOWEST), length - 2)
    size = scipy.fft.next_fast_len(length + last + 2, real=True)  # so that these lags do not wrap around
    own = np.maximum(autocorrelation(window, size, last + 2) / np.square(window).sum(), 1e-3)
    padded = np.pad(waveform, (length // 2, length))
    stretches = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][: 1 + len(waveform) // hop]
    periods, strength = np.empty(len(stretches)), np.empty(len(stretches))
    for block in blocks(len(stretches)):
        centred = (stretches[block] - stretches[block].mean(axis=1, keepdims=True)) * window
        lags = autocorrelation(centred, size, last + 2)
        correlation = lags / (lags[:, :1] + 1e-12) / own
        searched = correlation[:, first : last + 1]
        peaks = (searched >= correlation[:, first - 1 : last]) & (searched >= correlation[:, first + 1 : last + 2])
        best = np.where(peaks, searched, 0).max(axis=1, keepdims=True)
        at = (peaks & (searched >= 0.9 * best)).argmax(axis=1) + first
        row = np.arange(len(at))
        before, here, after = (correlation[row, at + step] for step in (-1, 0, 1))
        bend = before - 2 * here + after
        shift = np.where(np.abs(bend) > 1e-9, 0.5 * (before - after) / np.where(np.abs(bend) > 1e-9, bend, 1), 0)
        periods[block], strength[block] = at + shift.clip(-0.5, 0.5), best[:, 0].clip(0, 1)
    return rate / periods, strength


def autocorrelation(stretches: np.ndarray, size: int, lags: int) -> np.ndarray:
    """``(..., lags)`` of ``(..., samples)``, by Fourier transforms of ``size``, at least samples + lags - 1."""
    found: np.ndarray = scipy.fft.irfft(np.square(np.abs(scipy.fft.rfft(stretches, size))), size)
    return found[..., :lags]


def blocks(count: int) -> Iterator[slice]:
    """`BLOCK` after `BLOCK` of so many."""
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


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
    starts = np.maximum(0, hops * hop - length // 2)
    starts, window = starts[starts + length <= len(sharp)], np.hamming(length)
    found = [np.empty((0, 6))]
    for block in blocks(len(starts)):
        stretches = np.lib.stride_tricks.sliding_window_view(sharp, length)[starts[block]]
        hertz, width = linear_prediction(stretches[stretches.any(axis=1)] * window, rate)
        kept = (hertz > FORMANT_RANGE[0]) & (hertz < FORMANT_RANGE[1]) & (width < WIDEST) & (width > 0)
        order = np.where(kept, hertz, np.inf).argsort(axis=1)[:, :3]
        lowest = [np.take_along_axis(values, order, axis=1) for values in (hertz, 1 + width)]
        found.append(np.log(np.concatenate(lowest, axis=1)[kept.sum(axis=1) >= 3]))
    return np.concatenate(found)


def linear_prediction(stretches: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and bandwidths ``(stretches, POLES)`` in Hz of the poles of a linear prediction; 0 for half of each pair.

    Args:
        stretches: ``(stretches, samples)``, windowed, each with some sample other than 0.
        rate: Their rate in Hz.
    """
    length = stretches.shape[1]
    lags = np.stack(
        [(stretches[:, : length - lag] * stretches[:, lag:]).sum(axis=1) for lag in range(POLES + 1)], axis=1
    )
    lags[:, 0] *= 1.0001  # so that the equations always have a solution
    at = np.arange(POLES)
    companions = np.zeros((len(stretches), POLES, POLES))
    companions[:, at[1:], at[:-1]] = 1
    companions[:, 0] = np.linalg.solve(lags[:, np.abs(at[:, None] - at)], lags[:, 1:, None])[..., 0]
    poles = np.linalg.eigvals(companions)
    upper = poles.imag > 0
    hertz = np.where(upper, np.angle(poles), 0) * rate / (2 * np.pi)
    return hertz, -np.log(np.where(upper, np.abs(poles), 1)) * rate / np.pi
