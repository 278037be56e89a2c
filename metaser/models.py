"""The papers' networks. Each takes ``(clips, coefficients, frames)`` and returns logits ``(clips, outputs)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from metaser.errors import UserError, nearest


class FMAMLConv(nn.Module):
    """The F-MAML network as its authors coded it (arXiv 2101.01356; their repository's ``train.py``).

    Four 3×3 convolutions of 64 filters, stride 2, each followed by ReLU and batch normalisation, then one linear layer;
    Xavier initialisation. On a 40×40 input the sides go 40 → 20 → 10 → 5 → 3, so 576 features reach the linear layer.
    Batch normalisation always uses the statistics of the batch at hand, as theirs does: on a query set it is transductive.

    Args:
        input_shape: ``(coefficients, frames)``.
        outputs: N+F.
    """

    filters = 64
    blocks = 4

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(layer for block in range(self.blocks) for layer in self.block(block)), nn.Flatten())
        with torch.no_grad():
            features = self.body(torch.zeros(2, 1, *input_shape)).shape[1]
        self.head = nn.Linear(features, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def block(self, index: int) -> list[nn.Module]:
        """The layers of block ``index``."""
        channels = self.filters if index else 1
        convolution = nn.Conv2d(channels, self.filters, kernel_size=3, stride=2, padding=1)
        return [convolution, nn.ReLU(), nn.BatchNorm2d(self.filters, track_running_stats=False)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, coefficients, frames)``."""
        return self.head(self.body(x.unsqueeze(1)))


class FMAMLPooled(FMAMLConv):
    """The F-MAML network as the paper's text can be read: stride 1 and 2×2 max-pooling in each block.

    The text names neither stride nor pooling; it gives 576 = 64·3·3 features, so the last map is averaged to 3×3,
    whatever the input's length.
    """

    def block(self, index: int) -> list[nn.Module]:
        """The layers of block ``index``."""
        channels = self.filters if index else 1
        convolution = nn.Conv2d(channels, self.filters, kernel_size=3, padding=1)
        normalisation = nn.BatchNorm2d(self.filters, track_running_stats=False)
        layers = [convolution, nn.ReLU(), normalisation, nn.MaxPool2d(2, ceil_mode=True)]
        return [*layers, nn.AdaptiveAvgPool2d(3)] if index == self.blocks - 1 else layers


class MetaSERLSTM(nn.Module):
    """MetaSER's network (Chopra, Mathur, Sawhney, Shah, ICASSP 2021): two LSTM layers of 128, dense 128, dense outputs.

    The last frame's state of the second layer goes through both dense layers, without an activation between them, as in
    the authors' code. 225,924 parameters with 20 coefficients and 4 outputs.

    Args:
        input_shape: ``(coefficients, frames)``.
        outputs: Classes.
    """

    width = 128

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_shape[0], self.width, num_layers=2, batch_first=True)
        self.dense = nn.Linear(self.width, self.width)
        self.head = nn.Linear(self.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, coefficients, frames)``."""
        states, _ = self.lstm(x.transpose(1, 2))
        return self.head(self.dense(states[:, -1]))


MODELS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {
    "fmaml-conv": FMAMLConv,
    "fmaml-pooled": FMAMLPooled,
    "metaser-lstm": MetaSERLSTM,
}


def build(name: str, input_shape: tuple[int, int], outputs: int, seed: int) -> nn.Module:
    """A network by name, initialised from ``seed`` alone.

    Args:
        name: A key of `MODELS`.
        input_shape: ``(coefficients, frames)``.
        outputs: Logits per clip.
        seed: Seeds the initial weights; the global random state is left as it was.

    Raises:
        UserError: if there is no such network.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}; {nearest(name, MODELS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](input_shape, outputs)
