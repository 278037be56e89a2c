"""One clip from disk to a mono waveform at the wanted rate, or one clear line why not."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from metaser.runtime.errors import UserError
from metaser.runtime.files import open_regular

if TYPE_CHECKING:  # and below where they are used: decoding alone needs neither, and scipy.signal takes a second
    import torch
    import torchaudio

#: Sample rates in Hz that recordings have; any other is a damaged header.
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
#: The largest term of the two rates' reduced ratio that torchaudio resamples: its kernel grows with the terms' product.
#: 44100 to 16000 Hz is 441:160, but 24414 to 16000 Hz is 12207:8000, whose kernel takes gigabytes.
LARGEST_TERM = 2000
#: The most samples that a clip may have: an hour at 44.1 kHz, 640 MB when decoded; and the most channels.
MOST, CHANNELS = 160_000_000, 64
#: The most bytes that a clip's file may have: two channels of 4 bytes a sample.
LARGEST = 8 * MOST
#: The largest sample whose power is sure to be a number in float32; speech lies between -1 and 1, or is scaled as integers are.
LOUDEST = 1e15
#: Samples of all channels that are decoded at a time, for a header may claim far more than there is.
BLOCK = 1 << 20
#: What libsndfile says of a file that does not tell its length.
UNKNOWN = 2**63 - 1

TRUNCATED = "is truncated (shorter than its own header says); fetch it anew"


def open_clip(path: str | Path) -> BufferedReader:
    """Opens a clip's file for reading bytes: a regular file, or a link to one, of no more than `LARGEST` bytes.

    Raises:
        UserError: naming the file, if it is missing, cannot be opened, or is anything else.
    """
    with readable(path):
        handle = open_regular(path)
    if (size := os.fstat(handle.fileno()).st_size) > LARGEST:
        handle.close()
        raise UserError(f"{path}: has {size} bytes, and a clip at most {LARGEST}; cut it into clips")
    return handle


@contextmanager
def decoded(path: str | Path) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """A WAV or FLAC file, decoded block by block; its header is checked before the first.

    Yields:
        The sample rate in Hz; and the samples, block by block, each ``(samples,)`` float32 between -1 and 1, channels averaged.

    Raises:
        UserError: as `read_samples`, some of it only while the blocks are read.
    """
    with open_clip(path) as handle:
        before = os.fstat(handle.fileno())
        with readable(path):
            file = soundfile.SoundFile(handle.fileno(), closefd=False)
        with file:
            if is_cut_short(handle):
                raise UserError(f"{path}: {TRUNCATED}")
            if wrong := flaw(file.samplerate, file.channels, file.frames):
                raise UserError(f"{path}: {wrong}")
            yield file.samplerate, blocks(path, file)
        after = os.fstat(handle.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UserError(f"{path}: changed while it was read; try again")


def flaw(rate: int, channels: int, samples: int) -> str:
    """What a header says that no recording has; empty if nothing."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        return f"has a sample rate of {rate} Hz, not {LOWEST_RATE} to {HIGHEST_RATE}; fetch it anew"
    if channels > CHANNELS:
        return f"has {channels} channels, more than {CHANNELS}; fetch it anew"
    if samples == UNKNOWN:
        return "does not say how long it is; write it anew as WAV or FLAC"
    if samples > MOST:
        return (f"is {samples / rate / 60:.0f} minutes long, {samples} samples, and a clip has {MOST} at most, "
                f"{MOST / rate / 60:.0f} minutes at {rate} Hz; cut it into clips")  # fmt: skip
    return ""


def blocks(path: str | Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """The blocks of `decoded`.

    Raises:
        UserError: naming the file, if it cannot be decoded, has fewer samples than its header says, none, or some that
            are not finite.
    """
    found, size = 0, max(1, BLOCK // file.channels)
    while found < file.frames:
        with readable(path):
            block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            raise UserError(f"{path}: {TRUNCATED}")
        found += len(block)
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise UserError(f"{path}: holds NaN or infinite samples; remove it or fetch it anew")
        if (peak := np.abs(mono).max()) > LOUDEST:
            raise UserError(f"{path}: holds samples up to {peak:.3g}; scale them to between -1 and 1")
        yield mono
    if not found:
        raise UserError(f"{path}: holds no samples; remove it or fetch it anew")


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turns what the system and libsndfile raise into one line.

    Raises:
        UserError: naming the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        said = getattr(error, "error_string", "") or getattr(error, "strerror", "") or str(error)
        reason = " ".join(said.split()).rstrip(".")
        raise UserError(f"{path}: not readable as audio ({reason}); give a WAV or FLAC file") from None


def is_cut_short(handle: BufferedReader) -> bool:
    """Whether a WAV file is shorter than its RIFF header says; libsndfile would read what is there and be silent.

    Sizes near the field's limit are what encoders write that do not know the length beforehand: they say nothing.
    """
    header = os.pread(handle.fileno(), 8, 0)
    size = int.from_bytes(header[4:8], "little")
    return header[:4] == b"RIFF" and size < 0x7FFF0000 and os.fstat(handle.fileno()).st_size < size + 8


def read_samples(path: str | Path) -> tuple[np.ndarray, int]:
    """Decodes a WAV or FLAC file.

    Returns:
        The samples, ``(samples,)`` float32 between -1 and 1, channels averaged; and the sample rate in Hz.

    Raises:
        UserError: naming the file, if it is missing, no regular file, unreadable, truncated, empty, longer than `MOST`,
            changed meanwhile, has a sample rate or so many channels as no recording has, or holds NaN or infinite samples.
    """
    with decoded(path) as (rate, found):
        parts = list(found)
    samples, done = np.empty(sum(map(len, parts)), np.float32), 0
    parts.reverse()
    while parts:  # each is freed once it is copied, so that a long clip is not in memory twice
        part = parts.pop()
        samples[done : done + len(part)] = part
        done += len(part)
    return samples, rate


def read_waveform(path: str | Path, rate: int) -> torch.Tensor:
    """A clip as ``(samples,)`` float32 at ``rate`` Hz, resampled with a windowed sinc where needed.

    Raises:
        UserError: as `read_samples`.
    """
    import torch

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
    import torch

    common = math.gcd(found, wanted)
    down, up = found // common, wanted // common
    if max(down, up) <= LARGEST_TERM:
        return sinc(down, up)(torch.from_numpy(samples))
    import scipy.signal

    polyphase = scipy.signal.resample_poly(samples, up, down, window=low_pass(max(down, up)))
    return torch.from_numpy(polyphase.astype(np.float32, copy=False))


@lru_cache(maxsize=16)
def sinc(down: int, up: int) -> torchaudio.transforms.Resample:
    """torchaudio's resampler by a reduced ratio, with its kernel."""
    import torchaudio

    return torchaudio.transforms.Resample(down, up)


@lru_cache(maxsize=4)
def low_pass(factor: int) -> np.ndarray:
    """The filter that `scipy.signal.resample_poly` would design anew for each clip, ``(20 factor + 1,)`` float32."""
    import scipy.signal

    return scipy.signal.firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)).astype(np.float32)
