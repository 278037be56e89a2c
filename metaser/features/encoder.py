"""One waveform → one vector by a frozen self-supervised encoder: mean and deviation over time of one layer, or of all layers' mean.

The weights are torchaudio's (`torchaudio.pipelines`) and not fetched by metaser: who may download them puts the file where
`weights` says. Nothing is trained here, so the features are cached like any others.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import torch
import torchaudio
from torch import nn
from torch.nn.functional import pad

from metaser.features.base import Recipe
from metaser.runtime.errors import UserError, first_line
from metaser.runtime.files import cache_folder

LOADING = Lock()

#: The shortest clip, in s, that all encoders give a step of time for; shorter ones are filled up with zeros.
SHORTEST = 0.1


@dataclass(frozen=True, kw_only=True)
class Encoder(Recipe):
    """What a frozen self-supervised network makes of the clip, over time: ``(2 · width, 1)``.

    Attributes:
        bundle: The name of the pretrained network in `torchaudio.pipelines`.
        file: What its weights' file is called.
        width: Values per step of time of every layer.
        layers: How many there are.
        layer: Which is used, from 1; None for the mean of all.
    """

    bundle: str
    file: str
    width: int
    layers: int
    layer: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("width", "layers", *(["layer"] if self.layer is not None else []))
        self._check_choices(backend=("torchaudio",))
        if self.layer is not None and self.layer > self.layers:
            raise self._refusal("layer", f"it has {self.layers}; give 1 to {self.layers}, or null for their mean")

    @property
    def shape(self) -> tuple[int, int]:
        """``(2 · width, 1)``: means, then deviations."""
        return 2 * self.width, 1

    def features(self, waveform: torch.Tensor) -> tuple[torch.Tensor, int]:
        """See `Recipe.features`.

        Raises:
            UserError: if the weights are not there, or damaged.
        """
        waveform = pad(waveform, (0, max(0, round(SHORTEST * self.rate) - len(waveform))))
        with LOADING:  # once, however many threads ask
            model = network(self)
        with torch.inference_mode():
            layers, _ = model.extract_features(waveform[None])  # type: ignore[operator]
            steps = torch.stack(layers).mean(dim=0)[0] if self.layer is None else layers[self.layer - 1][0]
            deviation, mean = torch.std_mean(steps, dim=0, correction=0)
        return torch.cat([mean, deviation])[:, None].clone(), 1

    def identity(self) -> bytes:
        """The SHA-256 of the weights.

        Raises:
            UserError: if they are not there.
        """
        with weights(self).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").digest()


def weights(recipe: Encoder) -> Path:
    """Where the weights have to be.

    Raises:
        UserError: if they are not there; it says which file is wanted and where.
    """
    path = cache_folder("encoders") / recipe.file
    if not path.is_file():
        raise UserError(
            f"feature recipe {recipe.name}: needs the weights of torchaudio.pipelines.{recipe.bundle}, which metaser does not "
            f"download; put {recipe.file} (get_model() of that bundle fetches it) at {path}"
        )
    return path


@lru_cache(maxsize=1)
def network(recipe: Encoder) -> nn.Module:
    """The encoder, frozen, with the weights that are there.

    Raises:
        UserError: if they are not there, or not those of this network.
    """
    path = weights(recipe)
    try:
        model: nn.Module = getattr(torchaudio.pipelines, recipe.bundle).get_model(
            dl_kwargs={"model_dir": str(path.parent), "weights_only": True, "progress": False}
        )
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: not the weights of {recipe.bundle} ({first_line(error)}); fetch the file again"
        ) from None
    return model.eval().requires_grad_(False)
