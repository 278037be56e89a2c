"""Source-filter synthesis of speech: glottal pulses and noise, shaped frame by frame by the resonances of a vocal tract.

Fant, Acoustic theory of speech production, 1960; the resonators are those of Klatt, JASA 67, 1980.
"""

from __future__ import annotations

import numpy as np

from metaser.corpora.generated import RATE

#: In samples: 8 ms between frames, windows of 16 ms, spectra of 32 ms to leave room for a resonance to die away.
HOP, WINDOW, SPECTRUM = 128, 256, 512
FREQUENCIES = np.fft.rfftfreq(SPECTRUM, 1 / RATE).astype(np.float32)


def smooth(tracks: np.ndarray, width: int) -> np.ndarray:
    """``(frames, tracks)`` averaged over a Hann window of ``width`` frames (odd), float32; the ends are held."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(tracks, ((width // 2, width // 2), (0, 0)), mode="edge")
    smoothed = np.stack([np.convolve(track, window / window.sum(), mode="valid") for track in padded.T], axis=1)
    return smoothed.astype(np.float32)


def glottal_pulses(rng: np.random.Generator, f0: np.ndarray, samples: int, jitter: float) -> np.ndarray:
    """Pulses at F0 (Hz, per frame), each moved by ``jitter`` periods and 10 % louder or softer: ``(samples,)``."""
    track = np.interp(np.arange(samples), np.arange(len(f0)) * HOP, f0)
    phase = np.cumsum(track) / RATE
    times = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(samples))
    times = times + rng.normal(0, jitter, len(times)) * RATE / track[times.astype(int)]
    times = np.clip(times, 0, samples - 2)
    whole = times.astype(int)
    # The height keeps the power of voicing the same at any F0; a time between two samples is shared by both.
    height = rng.normal(1, 0.1, len(times)) * np.sqrt(RATE / track[whole])
    pulses = np.bincount(whole, height * (1 - times + whole), samples)
    return (pulses + np.bincount(whole + 1, height * (times - whole), samples)).astype(np.float32)


def tract_response(formants: np.ndarray, tilt: float, tract: float) -> np.ndarray:
    """Resonators in cascade with the source's ``tilt`` (dB per octave): ``(frames, bins)`` complex64.

    Args:
        formants: ``(frames, 3)``, F1 to F3 in Hz; F4 and up lie still, 1000 Hz apart, past half the rate, since without
            them the spectrum would drop off a cliff above F3.
        tilt: Of the source.
        tract: What scales the upper formants.
    """
    lips = FREQUENCIES**2 / (FREQUENCIES**2 + 60**2)  # They radiate no steady pressure.
    response = (lips * (np.maximum(FREQUENCIES, 60) / 200) ** (tilt / 6.02)).astype(np.complex64)
    for centre in (*np.arange(3500, 9000, 1000, dtype=np.float32) * np.float32(tract), *formants.T[:, :, None]):
        bandwidth = 50 + 0.04 * centre
        response = response * (centre**2 / (centre**2 - FREQUENCIES**2 + 1j * bandwidth * FREQUENCIES))
    return response


def short_time(signal: np.ndarray) -> np.ndarray:
    """Spectra of Hann windows that overlap by half, padded so that a filter may ring on: ``(frames, bins)``."""
    import scipy.fft  # in float32, which NumPy 1 cannot; not above, since `metaser data list` makes no clips

    windows = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    return scipy.fft.rfft(windows * np.hanning(WINDOW + 1)[:-1].astype(np.float32), SPECTRUM)


def overlap_add(spectra: np.ndarray) -> np.ndarray:
    """The signal of `short_time`'s spectra: ``(samples,)``."""
    import scipy.fft

    blocks = scipy.fft.irfft(spectra, SPECTRUM).reshape(len(spectra), SPECTRUM // HOP, HOP)
    signal = np.zeros((len(spectra) + SPECTRUM // HOP - 1, HOP), np.float32)
    for part in range(SPECTRUM // HOP):
        signal[part : part + len(spectra)] += blocks[:, part]
    return signal.reshape(-1)
