"""The contender ``learn2learn``: its example loop, with its own data transforms and algorithm classes, one task at a time.

Where learn2learn has the algorithm it is used as its examples do (MAML, FOMAML, Meta-SGD, ANIL); Reptile and Reg-MAML are
written in the same idiom. As in its ANIL example, all of a task's clips go through the network's body together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks import networks
from benchmarks.workloads import LAMBDA_RATIO, OUTER_LR, Case, Method, Workload, features
from metaser.runtime.learn2learn import l2l

#: As in learn2learn's examples: tasks are drawn from this many, each of them chosen when it is first met.
NUM_TASKS = 20000

#: A task's support features and labels, then its query features and labels.
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

#: Adds a task's meta-gradient to the parameters' ``grad`` and gives its loss and accuracy.
Task = Callable[..., tuple[float, float]]


class LabelledClips(TensorDataset):
    """(features, label) per clip, the label as a plain number."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:  # type: ignore[override]
        return self.tensors[0][index], int(self.tensors[1][index])


class Tasks:
    """learn2learn's tasks; call it for the next one.

    Args:
        workload: Their shape.
        x: ``(clips, coefficients, frames)``, class by class, the fixed classes last.
    """

    def __init__(self, workload: Workload, x: torch.Tensor) -> None:
        self.workload = workload
        cut = workload.classes * workload.clips
        labels = torch.arange(workload.classes).repeat_interleave(workload.clips)
        self.tasks = taskset(LabelledClips(x[:cut], labels), workload.ways, workload.shots + workload.queries)
        self.fixed = None
        if workload.fixed:  # their labels are the last outputs, and need no mapping
            outputs = torch.arange(workload.ways, workload.outputs).repeat_interleave(workload.clips)
            self.fixed = taskset(LabelledClips(x[cut:], outputs), len(workload.fixed), workload.queries, remap=False)

    def __call__(self) -> Batch:
        """Support and query set of a task, divided by a mask over the clips as in learn2learn's examples."""
        data, labels = self.tasks.sample()
        support = np.zeros(len(data), dtype=bool)
        support.reshape(self.workload.ways, -1)[:, : self.workload.shots] = True
        adaptation, evaluation = torch.from_numpy(support), torch.from_numpy(~support)
        query_x, query_y = data[evaluation], labels[evaluation]
        if self.fixed is not None:
            fixed_x, fixed_y = self.fixed.sample()
            query_x, query_y = torch.cat([query_x, fixed_x]), torch.cat([query_y, fixed_y])
        return data[adaptation], labels[adaptation], query_x, query_y


def taskset(dataset: LabelledClips, ways: int, clips: int, remap: bool = True) -> Any:
    """A `learn2learn.data.TaskDataset` of ``ways`` classes with ``clips`` clips each, clustered by class."""
    meta = l2l.data.MetaDataset(dataset)
    transforms = [l2l.data.transforms.NWays(meta, ways), l2l.data.transforms.KShots(meta, clips),
                  l2l.data.transforms.LoadData(meta)]  # fmt: skip
    if remap:
        transforms.append(l2l.data.transforms.RemapLabels(meta))
    return l2l.data.TaskDataset(meta, task_transforms=transforms, num_tasks=NUM_TASKS)


class Loop:
    """learn2learn's example loop; call it for one meta-iteration.

    Args:
        network: With ``features`` and ``classifier``.
        draw: Gives the next task.
        method: The algorithm and its inner steps.
        inner_lr: α.
        meta_batch: Tasks per meta-iteration.
    """

    def __init__(
        self, network: Any, draw: Callable[[], Batch], method: Method, inner_lr: float, meta_batch: int
    ) -> None:
        self.draw, self.steps, self.inner_lr, self.meta_batch = draw, method.steps, inner_lr, meta_batch
        self.loss = nn.CrossEntropyLoss(reduction="mean")
        name, self.network, body = method.algorithm, network, []
        others: dict[str, Task] = {"anil": self.anil, "reptile": self.reptile, "regmaml": self.regmaml}
        self.task = others.get(name, self.maml)
        if name == "metasgd":
            self.learner = l2l.algorithms.MetaSGD(network, lr=inner_lr)
        elif name == "anil":
            body = list(network.features.parameters())
            self.learner = l2l.algorithms.MAML(network.classifier, lr=inner_lr)
        else:
            self.learner = l2l.algorithms.MAML(network, lr=inner_lr, first_order=name != "maml")
        self.parameters = [*body, *self.learner.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=OUTER_LR)

    def __call__(self) -> None:
        """One meta-iteration."""
        self.gradient()
        self.optimiser.step()

    def gradient(self) -> None:
        """Leaves the mean of the tasks' meta-gradients in the parameters' ``grad``."""
        self.optimiser.zero_grad()
        meta_error = meta_accuracy = 0.0
        for _ in range(self.meta_batch):
            error, accuracy = self.task(*self.draw())
            meta_error += error
            meta_accuracy += accuracy
        for parameter in self.parameters:
            parameter.grad.data.mul_(1.0 / self.meta_batch)

    def adapted(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        """A clone of the learner after the inner steps on ``x`` and ``y``."""
        learner = self.learner.clone()
        for _ in range(self.steps):
            learner.adapt(self.loss(learner(x), y))
        return learner

    def maml(
        self, x: torch.Tensor, y: torch.Tensor, query_x: torch.Tensor, query_y: torch.Tensor
    ) -> tuple[float, float]:
        """MAML, FOMAML and Meta-SGD: the derivative of the adapted clone's query loss."""
        predictions = self.adapted(x, y)(query_x)
        error = self.loss(predictions, query_y)
        error.backward()
        return error.item(), accuracy(predictions, query_y)

    def anil(
        self, x: torch.Tensor, y: torch.Tensor, query_x: torch.Tensor, query_y: torch.Tensor
    ) -> tuple[float, float]:
        """ANIL: features once, then MAML on the classifier."""
        seen = self.network.features(torch.cat([x, query_x]))
        return self.maml(seen[: len(x)], y, seen[len(x) :], query_y)

    def reptile(self, x: torch.Tensor, y: torch.Tensor, *query: torch.Tensor) -> tuple[float, float]:
        """Reptile: (θ − φ)/α; the query set is not used."""
        learner = self.learner.clone()
        for _ in range(self.steps):
            predictions = learner(x)
            error = self.loss(predictions, y)
            learner.adapt(error)
        for parameter, end in zip(self.parameters, learner.parameters(), strict=True):
            step = (parameter.data - end.data) / self.inner_lr
            parameter.grad = step if parameter.grad is None else parameter.grad + step
        return error.item(), accuracy(predictions, y)

    def regmaml(
        self, x: torch.Tensor, y: torch.Tensor, query_x: torch.Tensor, query_y: torch.Tensor
    ) -> tuple[float, float]:
        """Reg-MAML: (1 + l) ∇L_Q(φ) − l ∇L_Q(θ)."""
        predictions = self.adapted(x, y)(query_x)
        error = self.loss(predictions, query_y)
        ((1 + LAMBDA_RATIO) * error - LAMBDA_RATIO * self.loss(self.learner(query_x), query_y)).backward()
        return error.item(), accuracy(predictions, query_y)


def accuracy(predictions: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of clips whose own label has the largest logit, which learn2learn's examples compute for every task."""
    return ((predictions.argmax(dim=1) == targets).sum().float() / targets.size(0)).item()


def prepare(cell: Case) -> Callable[[], None]:
    """One meta-iteration of a cell, as a function."""
    random.seed(cell.seed)
    workload = cell.workload
    tasks = Tasks(workload, torch.from_numpy(features(workload, cell.seed)))
    network = networks.build(workload, cell.seed)
    return Loop(network, tasks, cell.method, workload.inner_lr, workload.meta_batch)
