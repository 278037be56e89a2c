"""Layers whose gradients can be differentiated once more, exactly and at the machine's speed.

PyTorch differentiates its fused convolution, batch normalisation and LSTM twice through generic formulas that cost two to
five times what they need to; and where `torch.func.grad` meets `torch.vmap`, torch 2.11's second derivative of the fused
batch normalisation is silently wrong by parts in a thousand. These layers are the same functions with the same
parameters, computed in one of three ways, chosen by `set_route`:

- ``native``: PyTorch's fused kernels; the fastest way to a first gradient.
- ``twice``: the same, with second derivatives written by hand; what an inner loop needs that is differentiated through.
- ``plain``: elementary operations only, for `torch.vmap` and for whatever else has no rule for a fused kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from metaser.engine.layers.convolution import Conv2d, Images
from metaser.engine.layers.normalisation import BatchNorm
from metaser.engine.layers.recurrent import LSTM

Route = Literal["native", "twice", "plain"]

__all__ = ["LSTM", "BatchNorm", "Conv2d", "Images", "Route", "channels_last", "set_route"]


def set_route(network: nn.Module, route: Route) -> None:
    """How the layers of ``network`` that are of this package compute from now on; they start as ``native``."""
    for module in network.modules():
        if isinstance(module, Images | Conv2d | BatchNorm | LSTM):
            module.route = route


def channels_last(network: nn.Module) -> None:
    """Lays the weights of the network's convolutions out as their channels-last inputs are, once and for all.

    Large maps of few channels gain by it. Where the weights outnumber the map's values, as in a 5×5 convolution of 192
    channels over 3×3 positions, the usual order is faster, for the weights and for the map.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
