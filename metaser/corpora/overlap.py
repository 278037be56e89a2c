"""Clips that were cut from one recording with a stretch of audio in common: one of them must not test another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from metaser.corpora.audio import read_waveform

#: Clips that share at least this many seconds, correlated at least this much over them, overlap. Among all pairs of
#: URDU's clips those that overlap reach .979 and all others stay below .85.
OVERLAP_SECONDS, OVERLAP_CORRELATION = 0.25, 0.97
#: The cheap first looks, at this rate in Hz: overlapping clips correlate at least this much over the whole clips, and
#: this much over what they share (less than above: their shift is no whole number of samples at the low rate).
COARSE_RATE, COARSE_WHOLE, COARSE_SHARED = 2000, 0.15, 0.5


def overlaps(paths: Sequence[Path], rates: Sequence[int]) -> Iterator[tuple[tuple[Path, Path], float]]:
    """Pairs of different clips that have a stretch of audio in common, and how many seconds of it.

    All pairs are compared at a low rate first, one clip with all later ones by FFT; then the few likely ones fully.

    Args:
        paths: The clips; clips that are the same sample for sample make no pair.
        rates: Their sample rates in Hz.

    Raises:
        UserError: naming the file, if a clip cannot be read.
    """
    import torch  # the only part of `metaser data verify` that needs it

    coarse = [wave - wave.mean() for wave in (read_waveform(path, COARSE_RATE) for path in paths)]
    if not coarse:
        return
    size = power_of_two(2 * max(map(len, coarse)))
    padded = [torch.nn.functional.pad(wave / wave.norm().clamp(min=1e-9), (0, size - len(wave))) for wave in coarse]
    spectra = torch.fft.rfft(torch.stack(padded))
    for first in range(len(paths) - 1):
        peaks = torch.fft.irfft(spectra[first].conj() * spectra[first + 1 :], n=size).amax(dim=1)
        for second in (peaks > COARSE_WHOLE).nonzero().flatten().add(first + 1).tolist():
            if not shared(coarse[first].numpy(), coarse[second].numpy(), COARSE_RATE, COARSE_SHARED):
                continue
            rate = min(rates[first], rates[second])
            one, two = (read_waveform(paths[at], rate).numpy() for at in (first, second))
            seconds = shared(one - one.mean(), two - two.mean(), rate, OVERLAP_CORRELATION)
            if seconds and not np.array_equal(one, two):
                yield (paths[first], paths[second]), seconds


def shared(one: np.ndarray, two: np.ndarray, rate: int, correlation: float) -> float:
    """How many seconds two clips share at the shift where they agree best; 0 where they correlate less than asked.

    Args:
        one: ``(samples,)``, without offset.
        two: ``(samples,)``, likewise.
        rate: Theirs, in Hz.
        correlation: Normalised over the stretch in common, 1 at most.
    """
    shortest = int(OVERLAP_SECONDS * rate)
    if min(len(one), len(two)) < shortest:
        return 0.0
    size = power_of_two(len(one) + len(two))
    products = np.fft.irfft(np.fft.rfft(one, size).conj() * np.fft.rfft(two, size), size)
    shift = np.arange(shortest - len(one), len(two) - shortest + 1)  # sample t of one lies on t + shift of two
    start, stop = np.maximum(-shift, 0), np.minimum(len(two) - shift, len(one))
    ones, twos = (np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))]) for wave in (one, two))
    energies = (ones[stop] - ones[start]) * (twos[stop + shift] - twos[start + shift])
    agreement = products[shift % size] / np.sqrt(np.maximum(energies, 1e-12))
    best = int(agreement.argmax())
    return float(stop[best] - start[best]) / rate if agreement[best] > correlation else 0.0


def power_of_two(length: int) -> int:
    """The least power of two that is no less: lengths with large prime factors make an FFT many times slower."""
    return 1 << (length - 1).bit_length()
