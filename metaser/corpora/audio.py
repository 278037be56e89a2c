"""One clip from disk to a mono waveform at the wanted rate, or one clear line why not."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from metaser.errors import UserError


def read_samples(path: str | Path) -> tuple[np.ndarray, int]:
    """Decodes a WAV or FLAC file.

    Returns:
        The samples, ``(samples,)`` float32 between -1 and 1, channels averaged; and the sample rate in Hz.

    Raises:
        UserError: naming the file, if it is missing, unreadable, empty, or holds NaN or infinite samples.
    """
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = str(error).replace("\n", " ").removeprefix(f"Error opening {str(path)!r}: ").rstrip(".")
        raise UserError(f"{path}: not readable as audio ({reason}); give a WAV or FLAC file") from None
    if is_cut_short(path):
        raise UserError(f"{path}: is truncated (shorter than its own header says); fetch it anew")
    if samples.shape[0] == 0:
        raise UserError(f"{path}: holds no samples; remove it or fetch it anew")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds NaN or infinite samples; remove it or fetch it anew")
    return samples.mean(axis=1), int(rate)


def is_cut_short(path: str | Path) -> bool:
    """Whether a WAV file is shorter than its RIFF header says; libsndfile would read what is there and be silent.

    Sizes near the field's limit are what encoders write that do not know the length beforehand: they say nothing.
    """
    with open(path, "rb") as handle:
        header = handle.read(8)
    size = int.from_bytes(header[4:8], "little")
    return header[:4] == b"RIFF" and size < 0x7FFF0000 and os.path.getsize(path) < size + 8


def read_waveform(path: str | Path, rate: int) -> torch.Tensor:
    """A clip as ``(samples,)`` float32 at ``rate`` Hz, resampled with torchaudio's windowed sinc where needed.

    Raises:
        UserError: as `read_samples`.
    """
    samples, found = read_samples(path)
    waveform = torch.from_numpy(samples)
    return waveform if found == rate else resampler(found, rate)(waveform)


@lru_cache(maxsize=16)
def resampler(found: int, wanted: int) -> torchaudio.transforms.Resample:
    """The (cached) resampler from ``found`` to ``wanted`` Hz."""
    common = math.gcd(found, wanted)
    return torchaudio.transforms.Resample(found // common, wanted // common)
