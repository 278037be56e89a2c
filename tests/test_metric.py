"""Metric learners: Prototypical, Matching and Relation networks against their formulas, and pre-training below a last layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metaser.algorithms import fitting
from metaser.training import learners
from support.networks import network, settings_of
from support.tasks import toy_task

pytestmark = [pytest.mark.arithmetic, pytest.mark.quick]


def task_of(seed: int = 0):
    return toy_task(ways=3, shots=2, queries=3, seed=seed)


def embedded(learner, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return learner.model(x)


def test_a_matching_networks_probabilities_are_attention_over_cosines() -> None:
    task = task_of()
    learner = learners.build(settings_of("matching"), [network("tanh", task)])
    support, query = embedded(learner, task.support_x), embedded(learner, task.query_x)
    expected = np.zeros((len(query), 3))
    for q, row in enumerate(query):
        weights = np.exp([F.cosine_similarity(row, other, dim=0).item() for other in support])
        for label, weight in zip(task.support_y.tolist(), weights / weights.sum(), strict=True):
            expected[q, label] += weight
    assert np.allclose(learner.predict(task).exp().numpy(), expected, atol=1e-6)


def test_a_relation_networks_loss_is_squared_error_of_its_scores() -> None:
    task = task_of()
    learner = learners.build(settings_of("relation"), [network("tanh", task)])
    support, query = embedded(learner, task.support_x), embedded(learner, task.query_x)
    scores = torch.zeros(len(query), 3, dtype=query.dtype)
    for label in range(3):
        whole = support[task.support_y == label].sum(dim=0)
        for q, row in enumerate(query):
            with torch.no_grad():
                scores[q, label] = torch.sigmoid(learner.relation(torch.cat([whole, row])))[0]  # type: ignore[attr-defined]
    assert torch.allclose(learner.predict(task).sigmoid(), scores, atol=1e-6)
    found = learner.meta_gradient(learner.engine.group([task]))
    wanted = (scores - F.one_hot(task.query_y, 3)).square().mean()
    assert found.losses[0] == pytest.approx(wanted.item(), rel=1e-6)
    assert len(found.gradients) == len(list(learner.parameters())) > len(list(learner.model.parameters()))


@pytest.mark.parametrize("name", ["protonet", "matching", "relation"])
def test_a_metric_learners_gradient_is_that_of_its_query_loss(name: str) -> None:
    task = task_of()
    learner = learners.build(settings_of(name), [network("tanh", task)])
    found = learner.meta_gradient(learner.engine.group([task]))
    for parameter, gradient in zip(learner.parameters(), found.gradients, strict=True):
        place = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        losses = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter[place] += step
            losses.append(learner.meta_gradient(learner.engine.group([task])).losses[0])
        with torch.no_grad():
            parameter[place] += 1e-6
        assert gradient[place].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ["protonet", "matching", "relation"])
def test_a_metric_learner_does_not_mind_the_order_of_the_support_set(name: str) -> None:
    task = task_of()
    learner = learners.build(settings_of(name), [network("tanh", task)])
    order = torch.randperm(len(task.support_y), generator=torch.Generator().manual_seed(1))
    turned = type(task)(**{**vars(task), "support_x": task.support_x[order], "support_y": task.support_y[order]})
    assert torch.allclose(learner.predict(task), learner.predict(turned), atol=1e-6)


def test_a_network_may_be_pretrained_on_more_classes_than_it_answers() -> None:
    task = task_of()
    net = network("tanh", task)
    fit = {"epochs": 2, "batch": 4, "validation": 0, "base_lr": 0.01, "max_lr": 0.01}
    learner = learners.build(settings_of("maml", pretraining=fit), [net])
    head, body = net.head, [p.clone() for name, p in net.named_parameters() if not name.startswith("head")]
    before = head.weight.clone()  # type: ignore[operator, union-attr]
    x = torch.cat([task.support_x, task.query_x])
    names = [f"c{n % 5}" for n in range(len(x))]
    learner.prepare(learners.Sources(x, names, ["aa"] * len(x), tuple(f"c{n}" for n in range(5))))
    assert isinstance(net.head, nn.Linear)
    assert net.head is head
    assert torch.equal(net.head.weight, before)
    after = [p for name, p in net.named_parameters() if not name.startswith("head")]
    assert not all(torch.equal(a, b) for a, b in zip(body, after, strict=True))


@pytest.mark.parametrize("name", ["protonet", "matching", "relation"])
def test_a_metric_learners_embedding_is_pretrained_below_a_last_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of()
    fit = {"epochs": 1, "batch": 4, "validation": 0, "base_lr": 0.01, "max_lr": 0.01}
    learner = learners.build(settings_of(name, pretraining=fit), [network("tanh", task)])
    answers = []

    def spied(net: nn.Module, x: torch.Tensor, *more: object):
        answers.append(net(x).shape)
        return fitting.fit_once(net, x, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("metaser.algorithms.base.fit_once", spied)
    x = torch.cat([task.support_x, task.query_x])
    classes = tuple(f"c{n}" for n in range(5))
    learner.prepare(learners.Sources(x, [classes[n % 5] for n in range(len(x))], ["aa"] * len(x), classes))
    assert answers == [(len(x), 5)], "a logit per class, not the embedding itself"
    assert isinstance(learner.model.head, nn.Identity)
