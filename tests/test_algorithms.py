"""Meta-gradients in float64: against finite differences, closed forms and stock learn2learn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import learn2learn
import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from metaser import algorithms, models
from metaser.algorithms import Learner
from metaser.algorithms.fmaml import FMAML, FixedClasses
from metaser.engine.layers import BatchNorm
from metaser.runtime.parallel import Workers
from metaser.tasks import Episode, Task
from support.networks import adapted, difference, flat, meta, network, query_loss, settings_of, task_for
from support.tasks import toy_task

pytestmark = [pytest.mark.arithmetic, pytest.mark.quick]


def test_maml_is_the_derivative_of_the_adapted_loss_by_finite_differences() -> None:
    task = task_for("tanh")
    net = network("tanh", task)
    learner = algorithms.build(settings_of("maml"), net)
    gradient = flat(meta(learner, task).gradients)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}

    def loss_at(direction: torch.Tensor, step: float) -> float:
        pieces = direction.split([w.numel() for w in start.values()])
        moved = {name: (w + step * d.reshape(w.shape)).requires_grad_()
                 for (name, w), d in zip(start.items(), pieces, strict=True)}  # fmt: skip
        return query_loss(net, task, adapted(net, task, moved, lr=0.05, steps=2)).item()

    for seed in range(5):
        direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        step = 1e-4
        # Fourth-order central difference: truncation and rounding are both near 1e-12 here.
        derivative = (8 * (loss_at(direction, step) - loss_at(direction, -step))
                 - (loss_at(direction, 2 * step) - loss_at(direction, -2 * step))) / (12 * step)  # fmt: skip
        assert float(gradient @ direction) == pytest.approx(derivative, rel=1e-8)


@pytest.mark.parametrize("kind", ["tanh", "fc", "conv", "lstm"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("name", "first_order"), [("maml", False), ("fomaml", True)])
def test_meta_gradients_equal_the_definition_and_stock_learn2learn(
    kind: str, steps: int, name: str, first_order: bool
) -> None:
    task = task_for(kind)
    net = network(kind, task)
    result = meta(algorithms.build(settings_of(name, steps=steps), net), task)

    start = {key: p.detach().clone().requires_grad_() for key, p in net.named_parameters()}
    end = adapted(net, task, start, lr=0.05, steps=steps)
    loss = query_loss(net, task, end)
    wanted = torch.autograd.grad(loss, list((end if first_order else start).values()))
    assert difference(flat(result.gradients), flat(wanted)) < 1e-12
    assert result.losses == [pytest.approx(loss.item(), rel=1e-12)]

    stock = learn2learn.algorithms.MAML(net, lr=0.05, first_order=first_order)
    clone = stock.clone()
    for _ in range(steps):
        clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y))
    F.cross_entropy(clone(task.query_x), task.query_y).backward()
    assert difference(flat(result.gradients), flat(p.grad for p in net.parameters())) < 1e-12


def test_first_and_second_order_differ() -> None:
    """Or the two tests above would say little."""
    task = task_for("tanh")
    net = network("tanh", task)
    first, second = (flat(meta(algorithms.build(settings_of(name), net), task).gradients)
                     for name in ("fomaml", "maml"))  # fmt: skip
    assert difference(first, second) > 1e-3


@pytest.mark.parametrize(("first_order", "parent"), [(True, "fomaml"), (False, "maml")])
def test_fmaml_is_its_parent_on_tasks_with_fixed_classes(first_order: bool, parent: str) -> None:
    task = task_for("conv", fixed=2)
    net = network("conv", task)
    ours = meta(algorithms.build(settings_of("fmaml", first_order=first_order), net), task)
    theirs = meta(algorithms.build(settings_of(parent), net), task)
    assert torch.equal(flat(ours.gradients), flat(theirs.gradients))


def test_the_inner_loop_of_fmaml_only_lowers_the_fixed_logits() -> None:
    """The support set holds no fixed class, so adaptation drives their logits down; the outer gradient pushes back."""
    task = task_for("tanh", fixed=2)
    net = network("tanh", task)
    learner = algorithms.build(settings_of("fmaml", steps=30, inner_lr=0.3), net)
    start = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    end = adapted(net, task, start, lr=0.3, steps=1)
    assert ((end["head.bias"] - start["head.bias"])[task.ways :] < 0).all()
    outer = dict(zip(start, meta(learner, task).gradients, strict=True))
    assert (outer["head.bias"][task.ways :] < 0).all(), "descending raises them again"


def test_fmaml_refuses_tasks_that_are_not_n_plus_f_way() -> None:
    plain, fixed = task_for("tanh"), task_for("tanh", fixed=2)
    learner = algorithms.build(settings_of("fmaml"), network("tanh", plain))
    with pytest.raises(ValueError, match="fixed class"):
        meta(learner, plain)
    spoilt = Task(**{**vars(fixed), "support_y": fixed.support_y + fixed.fixed})
    for method in (partial(meta, learner), learner.predict):
        with pytest.raises(ValueError, match="support set"):
            method(spoilt)


def test_fixed_classes_have_the_last_outputs_and_are_in_no_support_set() -> None:
    """Wherever they stood when the episode was drawn."""
    drawn = Episode(
        np.arange(6), np.array([0, 0, 1, 1, 2, 2]), np.arange(6, 9), np.array([0, 1, 2]), ("rest", "joy", "fear"), "aa"
    )
    plain, task = (FixedClasses(("hush", "rest"), in_support)(drawn) for in_support in (True, False))
    for episode in (plain, task):
        assert (episode.classes, episode.fixed) == (("joy", "fear", "hush", "rest"), 2)
        assert episode.query_index.tolist() == [6, 7, 8]
        assert episode.query_y.tolist() == [3, 0, 1]
    assert plain.support_index.tolist() == [0, 1, 2, 3, 4, 5]
    assert plain.support_y.tolist() == [3, 3, 0, 0, 1, 1]
    assert task.support_index.tolist() == [2, 3, 4, 5]
    assert task.support_y.tolist() == [0, 0, 1, 1]


def learners() -> list[Learner]:
    task = task_for("conv", fixed=1)
    return [algorithms.build(settings_of(name), network("conv", task).float()) for name in ("maml", "fomaml", "fmaml")]


@pytest.mark.parametrize("learner", learners(), ids=lambda learner: learner.settings.name)
def test_threads_change_nothing_and_nothing_changes_the_learner(learner: Learner) -> None:
    tasks = [toy_task(fixed=1, seed=seed, shape=(8, 8), dtype=torch.float32) for seed in range(6)]
    before = flat(learner.parameters()).clone()
    with Workers(1) as one, Workers(3) as three:
        for method in (lambda task: flat(meta(learner, task).gradients), learner.predict):
            for first, second in zip(one.map(method, tasks), three.map(method, tasks), strict=True):
                assert torch.equal(first, second)
    assert torch.equal(before, flat(learner.parameters()))
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_prediction_adapts_with_the_test_steps() -> None:
    task = task_for("tanh")
    net = network("tanh", task)
    start = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    predicted = algorithms.build(settings_of("maml", test_steps=5), net).predict(task)
    wanted = functional_call(net, adapted(net, task, start, lr=0.05, steps=5), task.query_x)
    assert difference(predicted, wanted) < 1e-12
    assert not predicted.requires_grad


def test_models_have_the_published_sizes() -> None:
    """FACTS: 64·3·3 = 576 features, 115,975 parameters with 5 + 2 outputs."""
    net = models.build("fmaml-conv", (40, 40), 7, seed=0)
    assert net.head.in_features == 576
    assert sum(p.numel() for p in net.parameters()) == 115_975
    pooled = models.build("fmaml-pooled", (40, 300), 7, seed=0)
    assert pooled.head.in_features == 576
    for model, shape in ((net, (3, 40, 40)), (pooled, (3, 40, 300)), (pooled, (3, 40, 40))):
        assert model(torch.randn(shape)).shape == (3, 7)


def test_initial_weights_depend_on_the_seed_and_leave_the_global_state() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (flat(models.build("fmaml-conv", (40, 40), 7, seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_masked_support_loss_leaves_the_fixed_outputs_weights_alone() -> None:
    task = task_for("tanh", fixed=2)
    for masked, moved in ((False, True), (True, False)):
        net = network("tanh", task)
        learner = algorithms.build(settings_of("fmaml", mask_fixed=masked, steps=3), net)
        assert isinstance(learner, FMAML)
        group = learner.engine.group([task])
        adapted = learner.begin(group)
        for _ in range(3):
            adapted.adapt(adapted.inner_loss(group))
        before, after = dict(net.named_parameters()), dict(adapted.module.named_parameters())
        fixed = slice(task.ways, None)
        assert moved == (not torch.equal(before["head.weight"][fixed], after["head.weight"][fixed]))
        assert not torch.equal(before["head.weight"][: task.ways], after["head.weight"][: task.ways])


def test_a_calibrated_offset_gives_the_fixed_classes_as_much_probability_as_they_have_clips() -> None:
    """Where the derivative of the mean query loss by the offset is 0, the two are equal."""
    tasks = [task_for("tanh", fixed=2, seed=seed) for seed in range(60)]
    learner = algorithms.build(settings_of("fmaml", calibrate=True, steps=4, inner_lr=0.3), network("tanh", tasks[0]))
    assert isinstance(learner, FMAML)
    learner.finish(lambda number: tasks[number])
    assert learner.offset > 0, "each inner step pushes the fixed classes down"
    given, asked = 0.0, 0.0
    for task in tasks[:40]:
        given += float(learner.predict(task).softmax(dim=1)[:, task.ways :].sum())
        asked += float((task.query_y >= task.ways).sum())
    assert given == pytest.approx(asked, rel=1e-4)


def test_with_the_support_sets_statistics_no_query_clip_depends_on_another() -> None:
    task = task_for("conv")
    alone = replace(task, query_x=task.query_x[:1], query_y=task.query_y[:1])
    for statistics, independent in (("support", True), ("query", False)):
        learner = algorithms.build(settings_of("fomaml", statistics=statistics), network("conv", task))
        whole, single = learner.predict(task)[:1], learner.predict(alone)
        assert (difference(single, whole) < 1e-9) == independent


def test_the_support_sets_statistics_are_what_normalises() -> None:
    layer = BatchNorm(3).double()
    x = torch.randn(8, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer.reference = 5
    mean, deviation = (
        x[:5].mean(dim=(0, 2), keepdim=True),
        x[:5].var(dim=(0, 2), correction=0, keepdim=True).add(1e-5).sqrt(),
    )
    assert difference(layer(x), (x - mean) / deviation) < 1e-12
