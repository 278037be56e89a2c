"""The papers' networks. Each takes ``(clips, coefficients, frames)`` and returns logits ``(clips, outputs)``.

The layers are those of `metaser.engine.layers`, so that an inner loop can be differentiated through at speed; any other
`torch.nn.Module` works too. A network names its last layer ``head`` (ANIL adapts it alone), and may say ``smooth = True`` if
it has continuous second derivatives everywhere (`config.Engine.curvature` asks).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from metaser.engine.layers import LSTM, BatchNorm, Conv2d, Images, channels_last
from metaser.runtime.errors import UserError, nearest


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
        self.images = Images()
        self.body = nn.Sequential(*(layer for block in range(self.blocks) for layer in self.block(block)), nn.Flatten())
        with torch.no_grad():
            features = self.body(self.images(torch.zeros(2, *input_shape))).shape[1]
        self.head = nn.Linear(features, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        channels_last(self)

    def block(self, index: int) -> list[nn.Module]:
        """The layers of block ``index``."""
        channels = self.filters if index else 1
        convolution = Conv2d(channels, self.filters, kernel_size=3, stride=2, padding=1)
        return [convolution, nn.ReLU(inplace=True), BatchNorm(self.filters)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, coefficients, frames)``."""
        return self.head(self.body(self.images(x)))


class FMAMLPooled(FMAMLConv):
    """The F-MAML network as the paper's text can be read: stride 1 and 2×2 max-pooling in each block.

    The text names neither stride nor pooling; it gives 576 = 64·3·3 features, so the last map is averaged to 3×3,
    whatever the input's length.
    """

    def block(self, index: int) -> list[nn.Module]:
        """The layers of block ``index``."""
        channels = self.filters if index else 1
        convolution = Conv2d(channels, self.filters, kernel_size=3, padding=1)
        normalisation = BatchNorm(self.filters)
        layers = [convolution, nn.ReLU(inplace=True), normalisation, nn.MaxPool2d(2, ceil_mode=True)]
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
    smooth = True

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.lstm = LSTM(input_shape[0], self.width, num_layers=2)
        self.dense = nn.Linear(self.width, self.width)
        self.head = nn.Linear(self.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, coefficients, frames)``."""
        return self.decide(self.represent(x))

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        """The last state ``(clips, 128)`` of the LSTM, which fine-tuning of the dense layers leaves as it is."""
        return self.lstm(x.transpose(1, 2))[:, -1]

    def decide(self, state: torch.Tensor) -> torch.Tensor:
        """Logits of that."""
        return self.head(self.dense(state))


class StatisticsPooling(nn.Module):
    """Convolutions over time, then mean and deviation over all frames, as x-vectors have them (Snyder et al., ICASSP 2018).

    Three 1-D convolutions of 64 filters (5 frames; 3 frames, dilated by 2 and by 3), each followed by group normalisation of one
    group and ReLU; the statistics; a dense layer of 64 with ReLU; the head.

    Args:
        input_shape: ``(coefficients, frames)``.
        outputs: Classes.
    """

    width = 64

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, size, dilation in ((input_shape[0], 5, 1), (self.width, 3, 2), (self.width, 3, 3)):
            convolution = nn.Conv1d(before, self.width, size, padding=dilation * (size // 2), dilation=dilation)
            layers += [convolution, nn.GroupNorm(1, self.width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(2 * self.width, self.width), nn.ReLU())
        self.head = nn.Linear(self.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, coefficients, frames)``."""
        return self.decide(self.represent(x))

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        """The statistics ``(clips, 128)``: all means, then all deviations."""
        variance, mean = torch.var_mean(self.body(x), dim=2, correction=0)
        return torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)  # the root has no derivative at 0

    def decide(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits of these."""
        return self.head(self.dense(statistics))


class FunctionalsMLP(nn.Module):
    """Two hidden layers for utterance functionals, 128 and 64 wide, each linear, layer normalisation, ReLU.

    Args:
        input_shape: ``(values, 1)``.
        outputs: Classes.
    """

    widths = (128, 64)

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        sizes = (input_shape[0] * input_shape[1], *self.widths)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)`` of ``x`` ``(clips, values, 1)``."""
        return self.head(self.body(x))


class OmniglotFC(nn.Module):
    """Omniglot's fully connected network (Santoro et al. 2016), as learn2learn's ``OmniglotFC``: 784-256-128-64-64-outputs.

    Each hidden layer is linear, batch normalisation (ε = 0.001), ReLU; weights from a normal distribution of standard
    deviation 0.01 cut off at two of them.

    Args:
        input_shape: ``(height, width)``.
        outputs: Classes.
    """

    widths = (256, 128, 64, 64)

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        sizes = (input_shape[0] * input_shape[1], *self.widths)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), BatchNorm(after, eps=1e-3), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.02, b=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(images, outputs)`` of ``x`` ``(images, height, width)``."""
        return self.head(self.body(x))


class OmniglotCNN(nn.Module):
    """Omniglot's convolutional network (Finn et al. 2017), as learn2learn's ``OmniglotCNN``.

    Four 3×3 convolutions of 64 filters, stride 2, each followed by batch normalisation and ReLU; the mean over the last
    map's positions; one linear layer. learn2learn's copy keeps running statistics that nothing ever reads; this has none.

    Args:
        input_shape: ``(height, width)``.
        outputs: Classes.
    """

    filters = 64

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.images = Images()
        layers: list[nn.Module] = []
        for channels in (1, self.filters, self.filters, self.filters):
            convolution = Conv2d(channels, self.filters, kernel_size=3, stride=2, padding=1)
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            normalisation = BatchNorm(self.filters)
            nn.init.uniform_(normalisation.weight)
            layers += [convolution, normalisation, nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(self.filters, outputs)
        nn.init.normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        channels_last(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(images, outputs)`` of ``x`` ``(images, height, width)``."""
        return self.head(self.body(self.images(x)).mean((2, 3)))


class MNISTCNN(nn.Module):
    """The tutorial's MNIST network as it ran (source 3, ``metalearning.ipynb``): 1,545,674 parameters with 10 outputs.

    3×3 convolutions of 32, 64, 128 and 192 filters and a 5×5 one of 256, zero-padded, each scaled and followed by ReLU,
    with 2×2 max-pooling after all but the fourth; then one linear layer. The scale is what the tutorial's batch
    normalisation did: created at every call and in inference mode, it divided by √1.001.

    Args:
        input_shape: ``(height, width)``.
        outputs: Classes.
    """

    blocks = ((32, 3, True), (64, 3, True), (128, 3, True), (192, 3, False), (256, 5, True))
    scale = 1.001**-0.5
    #: Blocks whose maps have more values than their convolutions have weights; see `metaser.engine.layers.channels_last`.
    large = 3

    def __init__(self, input_shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.images = Images()
        self.body, channels = nn.ModuleList(), 1
        for filters, side, _ in self.blocks:
            self.body.append(Conv2d(channels, filters, kernel_size=side, padding=side // 2))
            channels = filters
        with torch.no_grad():
            features = self.features(torch.zeros(1, *input_shape)).shape[1]
        self.head = nn.Linear(features, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        channels_last(self.body[: self.large])

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """``(images, features)`` of ``x`` ``(images, height, width)``."""
        x = self.images(x)
        for index, (convolution, (*_, pooled)) in enumerate(zip(self.body, self.blocks, strict=True)):
            x = x.contiguous() if index == self.large else x
            # ReLU and the maximum commute with a positive factor, and after pooling there are fewer values to scale.
            x = torch.relu_(convolution(x))
            x = (F.max_pool2d(x, 2) if pooled else x) * self.scale
        return x.flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(images, outputs)`` of ``x`` ``(images, height, width)``."""
        return self.head(self.features(x))


MODELS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {
    "fmaml-conv": FMAMLConv,
    "fmaml-pooled": FMAMLPooled,
    "metaser-lstm": MetaSERLSTM,
    "statistics-pooling": StatisticsPooling,
    "mlp": FunctionalsMLP,
    "omniglot-fc": OmniglotFC,
    "omniglot-cnn": OmniglotCNN,
    "mnist-cnn": MNISTCNN,
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
    with seeded(seed):
        return MODELS[name](input_shape, outputs)


#: The global random state is every thread's.
_drawing = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights that are drawn in here depend on the seed alone, whatever other threads draw; the global random state stays."""
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
