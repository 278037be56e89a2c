"""MultiSER (MetaSER's baseline, Chopra et al., ICASSP 2021, section 4): class-wise multi-task pre-training.

Every emotion is a task, this emotion against the rest, with a decoder of its own (128 → 64, batch normalisation, ReLU, → 2, as in
the authors' code) on an encoder that all share. Steps alternate between the tasks. The decoders are then dropped, and
the dense layers tuned on the target with the LSTM frozen (``tuning: {layers: dense}``).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from metaser.algorithms.fitting import fit, keeping_head, linear_head
from metaser.baselines.pretrained import Joint
from metaser.models import seeded

#: Of a decoder's hidden layer.
WIDTH = 64


class OneAgainstRest(nn.Module):
    """An encoder with a decoder per class.

    Args:
        network: Its ``head`` is taken off; what is left is the encoder.
        classes: How many.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        width = linear_head(network, "MultiSER").in_features
        network.head = nn.Identity()
        self.encoder = network
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(width, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
            for _ in range(classes)
        )

    def loss(self, x: torch.Tensor, y: torch.Tensor, step: int | None) -> torch.Tensor:
        """Cross-entropy of the task whose turn it is; of all tasks, their mean, on held-out clips."""
        chosen = range(len(self.decoders)) if step is None else [step % len(self.decoders)]
        encoded = self.encoder(x)
        self.decoders.train(step is not None)
        losses = [F.cross_entropy(self.decoders[label](encoded), (y == label).long()) for label in chosen]
        return torch.stack(losses).mean()


class MultiSER(Joint):
    """Class-wise multi-task pre-training on all sources; see `Learner` for the arguments."""

    def pretrain(self, x: torch.Tensor, y: torch.Tensor, classes: int, seed: int) -> int:
        """Trains the encoder; the network's own head stays as it was drawn."""
        pretraining = self.settings.fit("pretraining")
        assert pretraining is not None, "it is asked only then"
        with keeping_head(self.model):
            with seeded(seed):
                tasks = OneAgainstRest(self.model, classes).to(x.device)
            return fit(tasks, x, y, pretraining, seed, objective=tasks.loss).best
