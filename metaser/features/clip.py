"""One waveform → one array of features ``(coefficients, frames)``, by any kind of recipe."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from metaser.features.base import Recipe
from metaser.runtime.errors import UserError


def compute(waveform: torch.Tensor, recipe: Recipe) -> tuple[torch.Tensor, int]:
    """The features of one clip, trimmed and cut as the recipe says, and how many of their frames hold speech.

    Args:
        waveform: ``(samples,)`` float32 at ``recipe.rate`` Hz, at least one sample.
        recipe: What to compute.

    Returns:
        ``(coefficients, frames)`` float32, and the number of valid frames, at least 1: 0 from there on.

    Raises:
        UserError: if the recipe needs weights that are not there.
    """
    if recipe.trim_db is not None:
        waveform = trim_silence(waveform, recipe.trim_db, recipe.window, recipe.hop)
    return recipe.features(waveform[: recipe.samples])


def checked(waveform: torch.Tensor, recipe: Recipe, path: str) -> tuple[torch.Tensor, int]:
    """As `compute`.

    Raises:
        UserError: naming the clip, if its features are not finite numbers.
    """
    x, frames = compute(waveform, recipe)
    if not x.isfinite().all():  # finite samples can still be so large that their power is not
        peak = waveform.abs().max()
        raise UserError(f"{path}: samples up to {peak:.3g} are too large; scale them to between -1 and 1")
    return x, frames


def trim_silence(waveform: torch.Tensor, trim_db: float, window: int, hop: int) -> torch.Tensor:
    """Cuts off leading and trailing windows whose mean power is ``trim_db`` or more below the loudest window's.

    The F-MAML paper speaks of trimming but states no threshold. A clip of digital silence stays whole.

    Args:
        waveform: ``(samples,)``.
        trim_db: In dB, above 0.
        window: In samples.
        hop: In samples.
    """
    power = pad(waveform, (0, window)).unfold(0, window, hop).square().mean(dim=1)
    loud = (power > power.max() * 10 ** (-trim_db / 10)).nonzero()
    return waveform[int(loud[0]) * hop : int(loud[-1]) * hop + window] if len(loud) else waveform
