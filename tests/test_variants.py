"""Reptile, Reg-MAML, ANIL, Meta-SGD in float64, against their definitions; and how a new algorithm is added."""

from __future__ import annotations

import learn2learn
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from metaser import algorithms, config, models
from metaser.algorithms import ALGORITHMS, Learner
from metaser.algorithms.anil import ANIL
from metaser.algorithms.base import MetaGradient, cross_entropy
from metaser.algorithms.maml import FOMAML
from metaser.engine import Group
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers
from metaser.tasks import EpisodeSampler, SpeechTasks, Task, TaskShape
from metaser.training import methods, train
from support.networks import adapted, difference, flat, meta, network, query_loss, settings_of, task_for
from support.tasks import EMOTIONS, features_of, utterances

pytestmark = pytest.mark.arithmetic

KINDS = ["tanh", "fc", "conv", "lstm"]
LR = 0.05


def start_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}


def gradient(name: str, net: nn.Module, task: Task, **changes: object) -> torch.Tensor:
    return flat(meta(algorithms.build(settings_of(name, **changes), net), task).gradients)


def support_loss(net: nn.Module, task: Task, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(functional_call(net, weights, task.support_x), task.support_y)


# --- Reptile ---


@pytest.mark.quick
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 4])
def test_reptile_points_from_theta_to_phi(kind: str, steps: int) -> None:
    task = task_for(kind)
    net = network(kind, task)
    start = start_of(net)
    end = adapted(net, task, start, lr=LR, steps=steps)
    difference_quotient = flat((start[name] - end[name]) / LR for name in start)
    assert difference(gradient("reptile", net, task, steps=steps), difference_quotient) < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_reptile_with_one_step_is_joint_training(kind: str) -> None:
    task = task_for(kind)
    net = network(kind, task)
    joint = torch.autograd.grad(cross_entropy(net(task.support_x), task.support_y), list(net.parameters()))
    assert torch.equal(gradient("reptile", net, task, steps=1), flat(joint))
    assert difference(gradient("reptile", net, task, steps=3), flat(joint)) > 1e-3, "more steps are something else"


def test_reptile_keeps_in_float32_what_the_difference_loses() -> None:
    task = task_for("tanh")
    exact = gradient("reptile", network("tanh", task), task, steps=1, inner_lr=1e-5)
    small = Task(**{**vars(task), "support_x": task.support_x.float(), "query_x": task.query_x.float()})
    net = network("tanh", task).float()
    start = start_of(net)
    end = adapted(net, small, start, lr=1e-5, steps=1)
    lost = flat((start[name] - end[name]) / 1e-5 for name in start)
    assert difference(gradient("reptile", net, small, steps=1, inner_lr=1e-5).double(), exact) < 1e-5
    assert difference(lost.double(), exact) > 1e-4


def test_the_printed_sign_of_reptile_climbs() -> None:
    """Source 1's equation (2), θ − ε·mean(φ − θ), raises the loss that θ + ε·mean(φ − θ) lowers."""
    task = task_for("tanh")
    net = network("tanh", task)
    direction = gradient("reptile", net, task, steps=4)
    start = start_of(net)

    def loss_after(sign: float) -> float:
        pieces = direction.split([w.numel() for w in start.values()])
        moved = {name: w - sign * 0.02 * d.reshape(w.shape) for (name, w), d in zip(start.items(), pieces, strict=True)}
        return support_loss(net, task, moved).item()

    assert loss_after(+1.0) < loss_after(0.0) < loss_after(-1.0)


# --- Reg-MAML ---


@pytest.mark.parametrize("kind", KINDS)
def test_reg_maml_without_lambda_is_fomaml_and_with_minus_alpha_joint_training(kind: str) -> None:
    task = task_for(kind)
    net = network(kind, task)
    assert torch.equal(gradient("regmaml", net, task, lambda_ratio=0), gradient("fomaml", net, task))
    joint = torch.autograd.grad(cross_entropy(net(task.query_x), task.query_y), list(net.parameters()))
    for minus_alpha in ({"lambda_ratio": -1.0}, {"lambda_": -LR}):
        assert torch.equal(gradient("regmaml", net, task, **minus_alpha), flat(joint))


@pytest.mark.parametrize("kind", KINDS)
def test_reg_maml_is_its_printed_equation(kind: str) -> None:
    task = task_for(kind)
    net = network(kind, task)
    start = start_of(net)
    end = {name: w.detach().requires_grad_() for name, w in adapted(net, task, start, lr=LR, steps=2).items()}
    at_end = flat(torch.autograd.grad(query_loss(net, task, end), list(end.values())))
    at_start = flat(torch.autograd.grad(query_loss(net, task, start), list(start.values())))
    lam = 0.7 * LR
    wanted = at_end + lam * (at_end - at_start) / LR
    assert difference(gradient("regmaml", net, task, lambda_=lam), wanted) < 1e-12
    assert difference(gradient("regmaml", net, task, lambda_ratio=0.7), wanted) < 1e-12


def test_lambda_adds_weight_to_minus_h1_g0() -> None:
    """What λ adds, divided by λ, tends to −H₁G₀ (autograd's Hessian-vector product) as α does to 0, linearly."""
    task = task_for("tanh")
    net = network("tanh", task)
    start = start_of(net)
    weights = list(start.values())
    inner = torch.autograd.grad(support_loss(net, task, start), weights)
    outer = torch.autograd.grad(query_loss(net, task, start), weights, create_graph=True)
    product = flat(torch.autograd.grad(outer, weights, grad_outputs=[g.detach() for g in inner]))

    def error(alpha: float) -> float:
        with_lambda, without = (
            gradient("regmaml", net, task, steps=1, inner_lr=alpha, lambda_ratio=ratio) for ratio in (1.0, 0.0)
        )
        return difference((with_lambda - without) / alpha, -product)

    assert error(1e-6) < 1e-5
    assert error(1e-3) / error(1e-4) == pytest.approx(10, rel=0.05)


def test_a_positive_lambda_rewards_aligned_gradients() -> None:
    """Descending Reg-MAML's gradient climbs G₀·G₁ faster the larger λ is (FACTS: weight −(α+λ) on AvgGradInner)."""
    task = task_for("tanh")
    net = network("tanh", task)
    start = start_of(net)
    weights = list(start.values())
    inner = torch.autograd.grad(support_loss(net, task, start), weights, create_graph=True)
    outer = torch.autograd.grad(query_loss(net, task, start), weights, create_graph=True)
    # The half of ∇(G₀·G₁) that Reg-MAML sees: H₁G₀.
    seen = flat(torch.autograd.grad(outer, weights, grad_outputs=[g.detach() for g in inner]))
    climbs = [
        float(-gradient("regmaml", net, task, steps=1, inner_lr=1e-4, lambda_=lam) @ seen) for lam in (0.0, 0.1, 0.5)
    ]
    assert climbs[0] < climbs[1] < climbs[2]


def test_both_lambdas_at_once_are_refused() -> None:
    with pytest.raises(UserError, match="not both"):
        settings_of("regmaml", lambda_=0.1, lambda_ratio=1.0)


# --- ANIL ---


@pytest.mark.parametrize("kind", ["tanh", "conv", "lstm"])
def test_anil_is_maml_whose_inner_loop_changes_the_head_alone(kind: str) -> None:
    task = task_for(kind)
    net = network(kind, task)
    start = start_of(net)
    weights = dict(start)
    for _ in range(3):
        head = {name: w for name, w in weights.items() if name.startswith("head.")}
        gradients = torch.autograd.grad(support_loss(net, task, weights), list(head.values()), create_graph=True)
        weights |= {name: w - LR * g for (name, w), g in zip(head.items(), gradients, strict=True)}
    wanted = flat(torch.autograd.grad(query_loss(net, task, weights), list(start.values())))
    assert difference(gradient("anil", net, task, steps=3), wanted) < 1e-12
    assert difference(gradient("maml", net, task, steps=3), wanted) > 1e-4
    learner = algorithms.build(settings_of("anil"), net)
    assert isinstance(learner, ANIL)
    group = learner.engine.group([task])
    adapted = learner.begin(group)
    for _ in range(2):
        adapted.adapt(adapted.inner_loss(group))
    end = dict(adapted.module.named_parameters())
    assert set(end) == {name for name in start if name.startswith("head.")}, "all that the inner loop may change"
    assert not any(torch.equal(start[name], after) for name, after in end.items())


# --- Meta-SGD ---


@pytest.mark.parametrize("kind", KINDS)
def test_meta_sgd_is_its_definition_and_stock_learn2learn(kind: str) -> None:
    task = task_for(kind)
    net = network(kind, task)
    start = start_of(net)
    rates = {name: torch.full_like(w, LR).requires_grad_() for name, w in start.items()}
    weights = dict(start)
    for _ in range(2):
        gradients = torch.autograd.grad(support_loss(net, task, weights), list(weights.values()), create_graph=True)
        weights = {name: w - rates[name] * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    wanted = torch.autograd.grad(query_loss(net, task, weights), [*start.values(), *rates.values()])
    assert difference(gradient("metasgd", net, task), flat(wanted)) < 1e-12

    stock = learn2learn.algorithms.MetaSGD(net, lr=LR)
    clone = stock.clone()
    for _ in range(2):
        clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y))
    F.cross_entropy(clone(task.query_x), task.query_y).backward()
    theirs = flat([*(p.grad for p in net.parameters()), *(rate.grad for rate in stock.lrs)])
    assert difference(gradient("metasgd", net, task), theirs) < 1e-12


def test_the_gradient_of_meta_sgds_rates_after_one_step_has_a_closed_form() -> None:
    """φ = θ − α∘g, and g does not depend on α: dL_Q/dα = −∇L_Q(φ)∘g."""
    task = task_for("tanh")
    net = network("tanh", task)
    start = start_of(net)
    inner = flat(torch.autograd.grad(support_loss(net, task, start), list(start.values())))
    end = {name: w.detach().requires_grad_() for name, w in adapted(net, task, start, lr=LR, steps=1).items()}
    outer = flat(torch.autograd.grad(query_loss(net, task, end), list(end.values())))
    both = gradient("metasgd", net, task, steps=1)
    assert difference(both[len(inner) :], -outer * inner) < 1e-12


# --- all of them ---


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "fmaml"])
def test_every_algorithm_runs_on_threads_with_the_same_bits_and_learns(name: str) -> None:
    more = {"lambda_ratio": 0.5} if name == "regmaml" else {}

    def losses(workers: int) -> tuple[list[float], list[torch.Tensor]]:
        learner = algorithms.build(settings_of(name, inner_lr=0.1, **more), models.build("fmaml-conv", (8, 8), 5, 0))
        seen: list[float] = []
        settings = config.Training(iterations=16, meta_batch=4, outer_lr=3e-3, log_every=1)
        with Workers(workers) as pool:
            train(
                learner,
                plain_tasks(),
                settings,
                pool,
                lambda _, losses, __: seen.append(sum(losses) / 4),
            )
        return seen, [p.detach() for p in learner.parameters()]

    (one, weights), (three, again) = losses(1), losses(3)
    assert one == three
    assert all(torch.equal(first, second) for first, second in zip(weights, again, strict=True))
    assert sum(one[-4:]) < sum(one[:4])


def plain_tasks(order: str = "permuted") -> SpeechTasks:
    table = utterances()
    sampler = EpisodeSampler(table, ["aa", "bb"], EMOTIONS, TaskShape(5, 3, 3, 3, order=order), "train")
    return SpeechTasks(features_of(table, shape=(8, 8), noise=3.0), list(table["emotion"]), sampler, seed=0)


class JointTraining(FOMAML):
    """A new algorithm, whole: the query gradient without any adaptation."""

    def meta_gradient(self, group: Group) -> MetaGradient:
        return self.gradient(self.begin(group).query(group), group)


def test_a_new_algorithm_is_one_class_and_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (ALGORITHMS, methods.LEARNERS):
        monkeypatch.setitem(registry, "mine", JointTraining)
    learner: Learner = algorithms.build(settings_of("mine"), models.build("fmaml-conv", (8, 8), 5, 0))
    seen: list[float] = []
    # Without label permutation: joint training cannot learn labels that change from task to task.
    tasks = plain_tasks(order="fixed")
    with Workers() as pool:
        settings = config.Training(iterations=30, log_every=1)
        train(learner, tasks, settings, pool, lambda _, losses, __: seen.append(losses[0]))
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])


def test_clipping_shortens_a_long_meta_gradient_only() -> None:
    def moved(clip_norm: float | None) -> torch.Tensor:
        learner = algorithms.build(settings_of("fomaml"), models.build("fmaml-conv", (8, 8), 5, 0))
        settings = config.Training(iterations=1, meta_batch=2, clip_norm=clip_norm)
        with Workers(1) as pool:
            train(learner, plain_tasks(), settings, pool, lambda *_: None)
        return flat(p.grad for p in learner.parameters())

    free = moved(None)
    assert moved(0.01).norm() == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(moved(1e6), free)
