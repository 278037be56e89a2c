"""The workloads' networks as anyone would write them: what both other contenders train, and what work is counted on.

Each has ``features`` and ``classifier``, as learn2learn's own two have, which are used as they are.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.workloads import Workload


class Network(nn.Module):
    """A network in two parts.

    Args:
        features: ``(clips, coefficients, frames)`` → ``(clips, width)``.
        width: What ``features`` gives.
        outputs: Logits per clip.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(clips, outputs)``."""
        return self.classifier(self.features(x))


class LSTMFeatures(nn.Module):
    """MetaSER's network up to its last layer: two LSTM layers, then a dense layer on the last frame's state."""

    def __init__(self, coefficients: int, width: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(coefficients, width, num_layers=2, batch_first=True)
        self.dense = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(clips, coefficients, frames)`` → ``(clips, width)``."""
        states, _ = self.lstm(x.transpose(1, 2))
        return self.dense(states[:, -1])


class Channel(nn.Module):
    """Features as one-channel images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(clips, height, width)`` → ``(clips, 1, height, width)``."""
        return x.unsqueeze(1)


class Scale(nn.Module):
    """The tutorial's batch normalisation, which its code leaves in inference mode: a division by √1.001."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` / √1.001."""
        return x / 1.001**0.5


def lstm(workload: Workload) -> nn.Module:
    """MetaSER's LSTM."""
    return Network(LSTMFeatures(workload.input_shape[0]), 128, workload.outputs)


def fmaml_conv(workload: Workload) -> nn.Module:
    """The F-MAML authors' network: four 3×3 convolutions of stride 2, each with ReLU and batch normalisation."""
    layers: list[nn.Module] = [Channel()]
    for channels in (1, 64, 64, 64):
        convolution = nn.Conv2d(channels, 64, kernel_size=3, stride=2, padding=1)
        layers += [convolution, nn.ReLU(), nn.BatchNorm2d(64, track_running_stats=False)]
    features = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        width = features(torch.zeros(2, *workload.input_shape)).shape[1]
    return Network(features, width, workload.outputs)


def mnist_cnn(workload: Workload) -> nn.Module:
    """The tutorial's network on 28×28 images: 1,544,132 parameters with 4 outputs, 1,545,674 with 10."""
    layers: list[nn.Module] = [Channel()]
    for channels, filters in ((1, 32), (32, 64), (64, 128)):
        convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1)
        layers += [convolution, Scale(), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(128, 192, kernel_size=3, padding=1), Scale(), nn.ReLU()]
    layers += [nn.Conv2d(192, 256, kernel_size=5, padding=2), Scale(), nn.ReLU(), nn.MaxPool2d(2)]
    return Network(nn.Sequential(*layers, nn.Flatten()), 256, workload.outputs)


def build(workload: Workload, seed: int) -> nn.Module:
    """A workload's network, with PyTorch's (or learn2learn's) own initial weights."""
    torch.manual_seed(seed)
    if workload.model.startswith("omniglot"):
        return omniglot(workload)
    return {"metaser-lstm": lstm, "fmaml-conv": fmaml_conv, "mnist-cnn": mnist_cnn}[workload.model](workload)


def omniglot(workload: Workload) -> nn.Module:
    """learn2learn's own networks; learn2learn is imported only here, since its import takes seconds and memory."""
    from metaser.runtime.learn2learn import l2l

    height, width = workload.input_shape
    if workload.model == "omniglot-fc":
        return l2l.vision.models.OmniglotFC(height * width, workload.outputs)
    network = l2l.vision.models.OmniglotCNN(workload.outputs)
    # Its convolutions are registered under two names, and learn2learn's MetaSGD adapts those of the name that is not used:
    # the rates would get no gradient at all. Without the second name the network is the same.
    del network.base
    return network
