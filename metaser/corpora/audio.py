"""One clip from disk to a mono waveform at the wanted rate, or one clear line why not."""

from __future__ import annotations

import math
import os
import stat
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
import torch
import torchaudio

from metaser.errors import UserError

#: Sample rates in Hz that recordings have; any other is a damaged header.
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
#: The largest term of the two rates' reduced ratio that torchaudio resamples: its kernel grows with the terms' product.
#: 44100 to 16000 Hz is 441:160, but 24414 to 16000 Hz is 12207:8000, whose kernel takes gigabytes.
LARGEST_TERM = 2000
#: Samples of all channels that are decoded at a time, for a header may claim far more than there is; and the most samples
#: that a clip may have, which is 93 minutes at 48 kHz.
BLOCK, MOST = 1 << 20, 1 << 28
#: The largest sample whose power is sure to be a number in float32; speech lies between -1 and 1, or is scaled as integers are.
LOUDEST = 1e15


def read_samples(path: str | Path) -> tuple[np.ndarray, int]:
    """Decodes a WAV or FLAC file.

    Returns:
        The samples, ``(samples,)`` float32 between -1 and 1, channels averaged; and the sample rate in Hz.

    Raises:
        UserError: naming the file, if it is missing, no regular file, unreadable, empty, too long, has a sample rate that no
            recording has, or holds NaN, infinite or far too large samples.
    """
    name = os.fsencode(path)  # soundfile cannot encode the text of a name that is not UTF-8
    try:
        regular(path)
        cut_short = is_cut_short(path)  # first, for it says why a file cannot be opened; libsndfile does not
        samples, rate, claimed = decode(name)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace("\n", " ")
        reason = reason.removeprefix(f"Error opening {name!r}: ").rstrip(".")
        raise UserError(f"{path}: not readable as audio ({reason}); give a WAV or FLAC file") from None
    if len(samples) > MOST or claimed > MOST:
        raise UserError(
            f"{path}: is longer than {MOST} samples, or its header says so; cut it into clips, or fetch it anew"
        )
    if cut_short or len(samples) < claimed:
        raise UserError(f"{path}: is truncated (shorter than its own header says); fetch it anew")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UserError(f"{path}: has a sample rate of {rate} Hz, not {LOWEST_RATE} to {HIGHEST_RATE}; fetch it anew")
    if len(samples) == 0:
        raise UserError(f"{path}: holds no samples; remove it or fetch it anew")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds NaN or infinite samples; remove it or fetch it anew")
    peak = np.abs(samples).max()
    if peak > LOUDEST:
        raise UserError(f"{path}: holds samples up to {peak:.3g}; scale them to between -1 and 1")
    return samples, rate


def regular(path: str | Path) -> None:
    """Refuses a pipe and the like before it is opened, which could take for ever.

    Raises:
        UserError: naming it.
        OSError: if it is not there, or cannot be looked at.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path}: not readable as audio (a pipe, a socket or a device); give a WAV or FLAC file")


def decode(name: bytes) -> tuple[np.ndarray, int, int]:
    """A file's samples as `read_samples` gives them, up to one block more than `MOST`; its rate; the samples it claims.

    None are decoded where it claims more than `MOST`.

    Raises:
        soundfile.SoundFileError: if it cannot be decoded.
    """
    with soundfile.SoundFile(name) as file:
        blocks, found, size = [np.zeros(0, np.float32)], 0, max(1, BLOCK // file.channels)
        with np.errstate(over="ignore", invalid="ignore"):  # `read_samples` tells what is not finite
            while (
                file.frames <= MOST and found <= MOST and len(block := file.read(size, dtype="float32", always_2d=True))
            ):
                blocks.append(block.mean(axis=1))
                found += len(block)
        return np.concatenate(blocks), file.samplerate, file.frames


def is_cut_short(path: str | Path) -> bool:
    """Whether a WAV file is shorter than its RIFF header says; libsndfile would read what is there and be silent.

    Sizes near the field's limit are what encoders write that do not know the length beforehand: they say nothing.
    """
    with open(path, "rb") as handle:
        header = handle.read(8)
    size = int.from_bytes(header[4:8], "little")
    return header[:4] == b"RIFF" and size < 0x7FFF0000 and os.path.getsize(path) < size + 8


def read_waveform(path: str | Path, rate: int) -> torch.Tensor:
    """A clip as ``(samples,)`` float32 at ``rate`` Hz, resampled with a windowed sinc where needed.

    Raises:
        UserError: as `read_samples`.
    """
    samples, found = read_samples(path)
    return torch.from_numpy(samples) if found == rate else resampled(samples, found, rate)


def resampled(samples: np.ndarray, found: int, wanted: int) -> torch.Tensor:
    """Samples at another rate: by torchaudio, or by polyphase filtering where its kernel would be too large.

    Args:
        samples: ``(samples,)`` float32.
        found: Their rate in Hz.
        wanted: The rate to bring them to, in Hz.

    Returns:
        ``(ceil(samples * wanted / found),)`` float32.
    """
    common = math.gcd(found, wanted)
    down, up = found // common, wanted // common
    if max(down, up) <= LARGEST_TERM:
        return sinc(down, up)(torch.from_numpy(samples))
    polyphase = scipy.signal.resample_poly(samples, up, down, window=low_pass(max(down, up)))
    return torch.from_numpy(polyphase.astype(np.float32, copy=False))


@lru_cache(maxsize=16)
def sinc(down: int, up: int) -> torchaudio.transforms.Resample:
    """torchaudio's resampler by a reduced ratio, with its kernel."""
    return torchaudio.transforms.Resample(down, up)


@lru_cache(maxsize=4)
def low_pass(factor: int) -> np.ndarray:
    """The filter that `scipy.signal.resample_poly` would design anew for each clip, ``(20 factor + 1,)`` float32."""
    return scipy.signal.firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)).astype(np.float32)
