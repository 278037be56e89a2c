"""Every meta-learner on every network in every layout, against learn2learn on the network itself: float64, three inner steps.

The chain: learn2learn's own MAML and MetaSGD = layout ``learn2learn`` = every other layout, or a refusal in words.
"""

from __future__ import annotations

from functools import cache

import learn2learn
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from metaser import algorithms, config, models
from metaser.algorithms import Learner
from metaser.algorithms.inner import InnerLoop
from metaser.runtime.errors import UserError
from metaser.tasks import Task
from metaser.training import learners, methods
from support.networks import difference, flat, meta, settings_of
from support.tasks import toy_task

pytestmark = pytest.mark.arithmetic

#: The papers' networks, as narrow as they can be, and clips' sides that they take.
NARROW: dict[str, tuple[dict[str, object], tuple[int, int]]] = {
    "fmaml-conv": ({"filters": 3}, (12, 10)),
    "fmaml-pooled": ({"filters": 3}, (12, 10)),
    "metaser-lstm": ({"width": 4}, (3, 5)),
    "statistics-pooling": ({"width": 4}, (3, 8)),
    "mlp": ({"widths": (6, 5)}, (7, 1)),
    "omniglot-fc": ({"widths": (6, 5)}, (4, 3)),
    "omniglot-cnn": ({"filters": 3}, (9, 9)),
    "mnist-cnn": ({"blocks": ((3, 3, True), (4, 3, False), (5, 5, True))}, (9, 9)),
}
#: Every meta-learner, by label: algorithm and settings. F-MAML in both orders.
META_LEARNERS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name, kind in methods.LEARNERS.items() if issubclass(kind, InnerLoop)},
    "regmaml": ("regmaml", {"lambda_ratio": 0.7}),
    "fmaml-masked": ("fmaml", {"first_order": False, "mask_fixed": True}),
}
FAST = ("task", "stacked", "low-rank")


def narrow(name: str, layout: str, label: str) -> Learner:
    """A meta-learner in float64 with three inner steps, on a network of its own, the same for every layout."""
    changes, sides = NARROW[name]
    kind = models.MODELS[name]
    assert isinstance(kind, type)
    with models.seeded(3):
        net = type(kind.__name__, (kind,), changes)(sides, 5).double()
    generator = torch.Generator().manual_seed(4)
    for parameter in net.parameters():  # away from zeros, ones and nearly linear starts: then second derivatives count
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    algorithm, more = META_LEARNERS[label]
    steps = {key: 3 for key in ("steps", "test_steps") if key in methods.fields(algorithm)}
    return learners.build(
        settings_of(algorithm, **steps, **more), [net], config.Engine.model_validate({"layout": layout})
    )


def narrow_tasks(name: str) -> list[Task]:
    """3+2-way, on which all of them can be trained."""
    return [toy_task(shape=NARROW[name][1], fixed=2, seed=seed) for seed in range(3)]


@cache
def trusted(name: str, label: str) -> tuple[torch.Tensor, list[float], list[float], torch.Tensor]:
    """Layout ``learn2learn``, task after task: meta-gradients, losses, accuracies, logits."""
    learner, tasks = narrow(name, "learn2learn", label), narrow_tasks(name)
    found = [meta(learner, task) for task in tasks]
    return (sum(flat(one.gradients) for one in found), [one.losses[0] for one in found], [one.accuracies[0] for one in found],
            torch.stack([learner.predict(task) for task in tasks]))  # fmt: skip


@pytest.mark.parametrize("layout", FAST)
@pytest.mark.parametrize("label", META_LEARNERS)
@pytest.mark.parametrize("name", models.MODELS)
def test_every_layout_agrees_with_learn2learns_or_refuses(name: str, label: str, layout: str) -> None:
    if layout == "low-rank" and (name != "omniglot-fc" or label == "metasgd"):
        with pytest.raises(
            UserError, match=r"low-rank needs a fully connected network, .* one inner learning rate; use task"
        ):
            narrow(name, layout, label)
        return
    learner, tasks = narrow(name, layout, label), narrow_tasks(name)
    gradients, losses, accuracies, logits = trusted(name, label)
    groups = [[task] for task in tasks] if layout == "task" else [tasks]
    found = [meta(learner, *group) for group in groups]
    assert difference(sum(flat(one.gradients) for one in found), gradients) < 1e-12
    assert [loss for one in found for loss in one.losses] == pytest.approx(losses, rel=1e-12)
    assert [share for one in found for share in one.accuracies] == accuracies
    assert difference(torch.stack([learner.predict(task) for task in tasks]), logits) < 1e-12


@pytest.mark.parametrize("label", ["maml", "fomaml", "metasgd"])
@pytest.mark.parametrize("name", models.MODELS)
def test_layout_learn2learn_is_learn2learns_own_algorithm(name: str, label: str) -> None:
    learner, tasks = narrow(name, "learn2learn", label), narrow_tasks(name)
    if label == "metasgd":
        stock = learn2learn.algorithms.MetaSGD(learner.model, lr=0.05)
    else:
        stock = learn2learn.algorithms.MAML(learner.model, lr=0.05, first_order=label == "fomaml")
    for task in tasks:
        clone = stock.clone()
        for _ in range(3):
            clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y))
        F.cross_entropy(clone(task.query_x), task.query_y).backward()
    rates = stock.lrs if label == "metasgd" else []
    gradients, *_ = trusted(name, label)
    assert (
        difference(gradients, flat([*(p.grad for p in learner.model.parameters()), *(rate.grad for rate in rates)]))
        < 1e-12
    )


class Convolutional(nn.Module):
    """F-MAML's network (arXiv 2101.01356, the authors' ``train.py``) of torch.nn's layers alone."""

    def __init__(self, filters: int, features: int, outputs: int) -> None:
        super().__init__()
        body: list[nn.Module] = []
        for channels in (1, filters, filters, filters):
            normalisation = nn.BatchNorm2d(filters, track_running_stats=False)
            body += [nn.Conv2d(channels, filters, 3, stride=2, padding=1), nn.ReLU(), normalisation]
        self.body = nn.Sequential(*body, nn.Flatten())
        self.head = nn.Linear(features, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.unsqueeze(1)))


@pytest.mark.parametrize("layout", ["learn2learn", "task", "stacked"])
def test_second_order_fmaml_is_the_derivative_through_its_inner_loop(layout: str) -> None:
    """By a double backward of this test's own: nothing of learn2learn, nothing of the engine."""
    task = toy_task(shape=(20, 18), fixed=2, shots=3)
    ours = models.build("fmaml-conv", (20, 18), 5, seed=1).double()
    options = config.Engine.model_validate({"layout": layout})
    learner = algorithms.build(settings_of("fmaml", first_order=False, inner_lr=0.1, steps=3), ours, options)
    theirs = Convolutional(64, ours.head.in_features, 5).double()
    theirs.load_state_dict(ours.state_dict())

    start = {name: weight.detach().clone().requires_grad_() for name, weight in theirs.named_parameters()}
    weights = start
    for _ in range(3):
        loss = F.cross_entropy(functional_call(theirs, weights, task.support_x), task.support_y)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: weight - 0.1 * one for (name, weight), one in zip(weights.items(), gradients, strict=True)}
    loss = F.cross_entropy(functional_call(theirs, weights, task.query_x), task.query_y)
    second = flat(torch.autograd.grad(loss, list(start.values()), retain_graph=True))
    first = flat(torch.autograd.grad(loss, list(weights.values())))

    found = meta(learner, task)
    assert difference(flat(found.gradients), second) < 1e-12
    assert difference(first, second) > 1e-2, "the order matters here"
    assert found.losses == [pytest.approx(loss.item(), rel=1e-12)]
