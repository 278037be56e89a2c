"""Small networks and learners, and what they compute written down a second time."""

from __future__ import annotations

from collections import OrderedDict

import learn2learn
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from metaser import algorithms, config, models
from metaser.algorithms import Learner
from metaser.algorithms.base import MetaGradient
from metaser.algorithms.fmaml import FixedClasses
from metaser.tasks import EpisodeSampler, SpeechTasks, Task, TaskShape
from metaser.training import methods
from support.tasks import EMOTIONS, features_of, toy_task, utterances

SHAPE = TaskShape(5, 3, 3, 3, ("neutral", "silence"), 3)
ALGORITHM = methods.configured("fmaml", inner_lr=0.1, steps=2)


def settings_of(name: str, **changes: object) -> config.Algorithm:
    usual = {key: value for key, value in {"inner_lr": 0.05, "steps": 2}.items() if key in methods.fields(name)}
    return methods.configured(name, **{**usual, **changes})


def network(kind: str, task: Task) -> nn.Module:
    """In float64: a smooth net, a fully connected one and a convolutional one with batch normalisation, an LSTM."""
    torch.manual_seed(1)
    height, width = task.query_x.shape[1:]
    outputs = len(task.classes)
    if kind == "tanh":
        layers = OrderedDict(
            flat=nn.Flatten(), body=nn.Linear(height * width, 6), bend=nn.Tanh(), head=nn.Linear(6, outputs)
        )
        return nn.Sequential(layers).double()
    if kind == "fc":
        body = learn2learn.vision.models.OmniglotFC(height * width, outputs, sizes=[8, 6])
        return nn.Sequential(nn.Flatten(), body).double()
    name = {"conv": "fmaml-conv", "lstm": "metaser-lstm"}[kind]
    return models.build(name, (height, width), outputs, seed=1).double()


def task_for(kind: str, fixed: int = 0, seed: int = 0) -> Task:
    return toy_task(fixed=fixed, seed=seed, shape=(8, 8) if kind == "conv" else (4, 5))


def adapted(
    net: nn.Module, task: Task, start: dict[str, torch.Tensor], lr: float, steps: int
) -> dict[str, torch.Tensor]:
    """The inner loop written with torch.func: φ after ``steps`` steps from ``start``, differentiable."""
    weights = start
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(net, weights, task.support_x), task.support_y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return weights


def query_loss(net: nn.Module, task: Task, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(functional_call(net, weights, task.query_x), task.query_y)


def flat(tensors: object) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])  # type: ignore[attr-defined]


def meta(learner: Learner, *tasks: Task) -> MetaGradient:
    """The tasks' meta-gradient, as one group."""
    return learner.meta_gradient(learner.engine.group(tasks))


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(((first - second).norm() / second.norm()).detach())


def stream(part: str = "train", name: str = "train", seed: int = 0) -> SpeechTasks:
    table = utterances()
    domains = ["aa", "bb"] if part == "train" else ["cc"]
    sampler = EpisodeSampler(table, domains, EMOTIONS, SHAPE, part)
    fixed = FixedClasses(SHAPE.fixed)
    return SpeechTasks(
        features_of(table, shape=(8, 8)), list(table["emotion"]), sampler, seed, name, task_transforms=[fixed]
    )


def learner_of(seed: int = 0) -> Learner:
    return algorithms.build(ALGORITHM, models.build("fmaml-conv", (8, 8), 7, seed))
