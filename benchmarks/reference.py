"""The contender ``reference``: the way of MetaSER's published repository (Chopra, Mathur, Sawhney, Shah 2021), written anew.

Every task filters the table anew, wraps the chosen clips in a Dataset and a DataLoader for each of its sets, and adapts
a deep copy of the network with `torch.optim.SGD`. First order only, as the paper says; its ``train.py`` was not published.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import networks
from benchmarks.workloads import OUTER_LR, Case, Workload, features, table

#: The algorithms that it takes no derivative through an inner loop for.
ALGORITHMS = ("fomaml", "reptile")


class StoredClips(Dataset):
    """The clips of one set of a task.

    Args:
        store: Path → features.
        paths: The chosen clips.
        labels: Their outputs.
    """

    def __init__(self, store: dict[str, np.ndarray], paths: list[str], labels: list[int]) -> None:
        self.store, self.paths, self.labels = store, paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.store[self.paths[index]]).float(), self.labels[index]


class Loop:
    """The loop; call it for one meta-iteration.

    Args:
        cell: What to train.
    """

    def __init__(self, cell: Case) -> None:
        random.seed(cell.seed)
        self.workload, self.method = cell.workload, cell.method
        self.table: pd.DataFrame = table(cell.workload)
        self.store = dict(zip(self.table["path"], features(cell.workload, cell.seed), strict=True))
        self.classes = list(dict.fromkeys(self.table["emotion"]))[: cell.workload.classes]
        self.network = networks.build(cell.workload, cell.seed)
        self.loss = nn.CrossEntropyLoss()
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=OUTER_LR)

    def loaders(self, workload: Workload) -> tuple[DataLoader, DataLoader]:
        """Loaders of a new task's support and query set, each a single batch."""
        support: tuple[list[str], list[int]] = [], []
        query: tuple[list[str], list[int]] = [], []
        for output, name in enumerate([*random.sample(self.classes, workload.ways), *workload.fixed]):
            paths = list(self.table[self.table["emotion"] == name]["path"])
            paths = random.sample(paths, len(paths))
            shots = workload.shots if output < workload.ways else 0
            for (chosen, labels), part in ((support, paths[:shots]), (query, paths[shots : shots + workload.queries])):
                chosen += part
                labels += [output] * len(part)
        return self.loader(*support), self.loader(*query)

    def loader(self, paths: list[str], labels: list[int]) -> DataLoader:
        """All clips of a set as one batch, in random order."""
        return DataLoader(StoredClips(self.store, paths, labels), batch_size=len(paths), shuffle=True)

    def __call__(self) -> None:
        """One meta-iteration."""
        self.gradient()
        self.optimiser.step()

    def gradient(self) -> None:
        """Leaves the mean of the tasks' meta-gradients in the parameters' ``grad``."""
        self.optimiser.zero_grad()
        for _ in range(self.workload.meta_batch):
            support, query = self.loaders(self.workload)
            x, y = next(iter(support))
            clone = copy.deepcopy(self.network)
            inner = torch.optim.SGD(clone.parameters(), lr=self.workload.inner_lr)
            for _ in range(self.method.steps):
                loss = self.loss(clone(x), y)
                inner.zero_grad()
                loss.backward()
                inner.step()
            if self.method.algorithm == "reptile":
                pairs = zip(self.network.parameters(), clone.parameters(), strict=True)
                gradients = [(start.data - end.data) / self.workload.inner_lr for start, end in pairs]
            else:
                query_x, query_y = next(iter(query))
                inner.zero_grad()
                self.loss(clone(query_x), query_y).backward()
                gradients = [parameter.grad.data for parameter in clone.parameters() if parameter.grad is not None]
            for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
                part = gradient / self.workload.meta_batch
                parameter.grad = part if parameter.grad is None else parameter.grad + part


def prepare(cell: Case) -> Callable[[], None]:
    """One meta-iteration of a cell, as a function."""
    return Loop(cell)
