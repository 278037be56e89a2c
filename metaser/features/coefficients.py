"""One trimmed waveform → one array of MFCCs ``(coefficients, frames)``, by a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import python_speech_features
import torch
from scipy import ndimage
from torch.nn.functional import pad
from torchaudio import functional as audio

from metaser.features.base import Recipe, is_number


@dataclass(frozen=True, kw_only=True)
class MFCC(Recipe):
    """Mel-frequency cepstral coefficients, frame by frame; see `Recipe`, and:

    Attributes:
        coefficients: MFCCs per frame.
        frames: Frames in the array.
        window: Analysis window and FFT length, in samples.
        mels: Mel bands (Slaney's scale and normalisation with torchaudio, HTK's scale with python_speech_features).
        f_min: Lowest band edge in Hz.
        f_max: Highest band edge in Hz; None for half the rate.
        log: ``db``, decibels with a floor 80 dB below the clip's loudest bin, or ``ln``, natural logarithm with zeros
            left as zeros. Only with torchaudio.
        fit: How the frames that come out are brought to ``frames``: ``crop`` (or zero-pad), ``average`` (by area, over
            time) or ``resize`` (as an image, as scikit-image does).
        padding: What the first and last window see outside the clip, ``constant`` (zeros) or ``reflect``. Only with
            torchaudio.
        backend: ``torchaudio`` or ``python_speech_features``; the latter with its own pre-emphasis (0.97), liftering
            (22), rectangular window and first coefficient (log energy), and the same rate, window, hop and counts.
    """

    coefficients: int
    frames: int
    mels: int
    f_min: float = 0.0
    f_max: float | None = None
    log: str = "db"
    fit: str = "crop"
    padding: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("coefficients", "frames", "mels")
        self._check_choices(fit=("crop", "average", "resize"), log=("db", "ln"), padding=("constant", "reflect"))
        if not (is_number(self.f_min) and is_number(self.top) and 0 <= self.f_min < self.top <= self.rate / 2):
            raise self._refusal("f_max", f"the bands must lie between f_min ({self.f_min} Hz) and {self.rate / 2:g} Hz")
        if self.mels < self.coefficients:
            raise self._refusal("mels", f"give as many as there are coefficients ({self.coefficients}) or more")
        if self.fit != "crop" and self.seconds is None:
            raise self._refusal("seconds", f"fit '{self.fit}' needs a fixed length in seconds")
        if self.fit == "resize" and self.backend != "torchaudio":
            raise self._refusal("backend", "it repeats its authors' own pipeline; give 'torchaudio'")

    @property
    def shape(self) -> tuple[int, int]:
        """``(coefficients, frames)`` of the array."""
        return self.coefficients, self.frames

    @property
    def top(self) -> float:
        """The highest band edge in Hz."""
        return self.rate / 2 if self.f_max is None else self.f_max

    def features(self, waveform: torch.Tensor) -> tuple[torch.Tensor, int]:
        """See `Recipe.features`.

        Windows at a clip's edge are filled up with zeros, so that a clip shorter than one window works and padding the
        waveform with silence would give the same frames. Frames that lie wholly in the padding are 0 in the result.
        """
        if self.fit == "resize":
            waveform = pad(waveform, (0, (self.samples or 0) - len(waveform)))
        frames = _torchaudio_mfcc(waveform, self) if self.backend == "torchaudio" else _psf_mfcc(waveform, self)
        return {"crop": _crop, "average": _average, "resize": _resize}[self.fit](frames, self)


def _torchaudio_mfcc(waveform: torch.Tensor, recipe: MFCC) -> torch.Tensor:
    """``(coefficients, 1 + samples // hop)``, as ``librosa.feature.mfcc`` computes them."""
    count = 1 + len(waveform) // recipe.hop
    if recipe.padding == "reflect":  # there must be enough to mirror
        waveform = pad(waveform, (0, max(0, recipe.window // 2 + 1 - len(waveform))))
    _, _, basis = constants(recipe)
    return (basis @ spectrum(waveform, recipe)[1])[:, :count]


def spectrum(waveform: torch.Tensor, recipe: MFCC) -> tuple[torch.Tensor, torch.Tensor]:
    """The power spectrogram ``(bins, hops)`` and the log-mel bands ``(mels, hops)``, in dB or as the recipe says."""
    window, filters, _ = constants(recipe)
    power = audio.spectrogram(
        waveform, 0, window, recipe.window, recipe.hop, recipe.window, 2.0, False, pad_mode=recipe.padding
    )
    bands: torch.Tensor = filters @ power
    if recipe.log == "db":
        return power, audio.amplitude_to_DB(bands, multiplier=10.0, amin=1e-10, db_multiplier=0.0, top_db=80.0)
    return power, torch.where(bands > 0, bands.log(), 0.0)


@lru_cache(maxsize=16)
def constants(recipe: MFCC) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The window ``(window,)``, the mel filters ``(mels, bins)`` and the DCT-II's ``(coefficients, mels)``."""
    bins = recipe.window // 2 + 1
    filters = audio.melscale_fbanks(bins, recipe.f_min, recipe.top, recipe.mels, recipe.rate, "slaney", "slaney")
    basis = audio.create_dct(recipe.coefficients, recipe.mels, "ortho")
    # Always float32, even where a caller has made float64 torch's default.
    return torch.hann_window(recipe.window).float(), filters.T.float().contiguous(), basis.T.float().contiguous()


def _psf_mfcc(waveform: torch.Tensor, recipe: MFCC) -> torch.Tensor:
    """``(coefficients, frames)`` from python_speech_features; its windows start at, not around, the hop's multiples."""
    found = python_speech_features.mfcc(
        waveform.numpy().astype(np.float64), recipe.rate, recipe.window / recipe.rate, recipe.hop / recipe.rate,
        numcep=recipe.coefficients, nfilt=recipe.mels, nfft=recipe.window, lowfreq=recipe.f_min, highfreq=recipe.top,
    )  # fmt: skip
    return torch.from_numpy(found.T.astype(np.float32))


def _crop(frames: torch.Tensor, recipe: MFCC) -> tuple[torch.Tensor, int]:
    """The first frames, zero-padded at the end where there are too few."""
    kept = frames[:, : recipe.frames]
    return pad(kept, (0, recipe.frames - kept.shape[1])), kept.shape[1]


def _average(frames: torch.Tensor, recipe: MFCC) -> tuple[torch.Tensor, int]:
    """Each output frame is the mean of the valid frames it covers, weighted by how much of each it covers."""
    weights = _areas((recipe.samples or 0) // recipe.hop, recipe.frames)[: frames.shape[1]]
    cover = weights.sum(dim=0)
    return frames[:, : len(weights)] @ weights / cover.clamp(min=1e-9), int((cover > 0).sum())


@lru_cache(maxsize=16)
def _areas(steps: int, frames: int) -> torch.Tensor:
    """``(steps, frames)``: how much of step t's interval lies in frame j's, both dividing the same stretch of time."""
    step = torch.arange(steps, dtype=torch.float64)[:, None]
    frame = torch.arange(frames, dtype=torch.float64) * steps / frames
    overlap = torch.minimum(step + 1, frame + steps / frames) - torch.maximum(step, frame)
    return torch.where(overlap > 1e-9, overlap, 0.0).float()


def _resize(frames: torch.Tensor, recipe: MFCC) -> tuple[torch.Tensor, int]:
    """As ``skimage.transform.resize`` by default: Gaussian against aliasing, then linear on a grid of pixel areas."""
    image, size = frames.numpy(), (recipe.coefficients, recipe.frames)
    factors = np.divide(image.shape, size)
    blurred = ndimage.gaussian_filter(image, np.maximum(0, (factors - 1) / 2), mode="mirror")
    resized = torch.from_numpy(ndimage.zoom(blurred, 1 / factors, order=1, mode="mirror", grid_mode=True))
    speech = resized.abs().amax(dim=0).nonzero()  # silence is 0 in this recipe, and the blur carries speech into it
    return resized, int(speech[-1]) + 1 if len(speech) else 1
