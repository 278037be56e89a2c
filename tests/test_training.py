"""The training and evaluation loops: what they compute, and that threads and clocks do not matter."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_info
from torch import nn

from metaser import algorithms, config, models
from metaser.algorithms import Learner
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers
from metaser.training import methods, train
from metaser.training.evaluation import evaluate, mean_interval, score, seeded_interval
from support.networks import learner_of, stream
from support.tasks import toy_task

pytestmark = pytest.mark.arithmetic


def trained(workers: int, **changes: object) -> tuple[Learner, list]:
    rows: list = []
    learner = learner_of()
    settings = config.Training.model_validate({"iterations": 6, "meta_batch": 3, "log_every": 2, **changes})
    with Workers(workers) as pool:
        train(
            learner,
            stream(),
            settings,
            pool,
            lambda iteration, losses, _: rows.append((iteration, list(losses))),
        )
    return learner, rows


@pytest.mark.quick
def test_one_or_several_threads_give_the_same_bits() -> None:
    (one, rows_one), (three, rows_three) = trained(1), trained(3)
    assert rows_one == rows_three
    assert [iteration for iteration, _ in rows_one] == [2, 4, 6]
    assert all(len(losses) == 6 for _, losses in rows_one)
    for first, second in zip(one.parameters(), three.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.quick
def test_one_iteration_is_adam_on_the_mean_meta_gradient() -> None:
    learner, _ = trained(2, iterations=1)
    by_hand = learner_of()
    batch = [by_hand.meta_gradient(by_hand.engine.group([stream().task(1, index)])) for index in range(3)]
    optimiser = torch.optim.Adam(by_hand.parameters(), lr=1e-3)
    for number, parameter in enumerate(by_hand.parameters()):
        parameter.grad = torch.stack([task.gradients[number] for task in batch]).double().mean(0).float()
    optimiser.step()
    start = learner_of()
    for ours, theirs, before in zip(learner.parameters(), by_hand.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert not torch.equal(ours, before)


def test_training_learns_to_adapt_to_an_unseen_domain() -> None:
    """The domains share their classes' features, so far above the chance of 1 in 7."""
    with Workers() as workers:
        learner = learner_of()
        before = evaluate(learner, stream("test", "test"), 10, workers).tasks
        train(learner, stream(), config.Training(iterations=40), workers, lambda *_: None)
        after = evaluate(learner, stream("test", "test"), 10, workers).tasks
    assert after["loss"].mean() < before["loss"].mean() - 0.2
    assert after["accuracy"].mean() > before["accuracy"].mean() + 0.2
    assert after["recall_silence"].mean() > 0.6, "a fixed class is learned without ever being in a support set"


def test_the_monitor_sees_and_does_not_touch() -> None:
    plain, _ = trained(1)
    seen: list[int] = []
    watched = learner_of()
    with Workers(1) as pool:
        settings = config.Training(iterations=6, meta_batch=3, monitor_every=4)

        def monitor(iteration: int) -> None:
            seen.append(iteration)
            evaluate(watched, stream("test", "monitor"), 2, pool)

        train(watched, stream(), settings, pool, lambda *_: None, monitor)
    assert seen == [0, 4, 6]
    for first, second in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.quick
def test_divergence_is_said_and_ends_the_training() -> None:
    learner = algorithms.build(
        methods.configured("fomaml", inner_lr=1e6, steps=9), models.build("fmaml-conv", (8, 8), 7, 0)
    )
    with Workers(1) as pool, pytest.raises(UserError, match=r"diverged at iteration 1 .*lower inner_lr"):
        train(learner, stream(), config.Training(iterations=2), pool, lambda *_: None)


@pytest.mark.quick
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 2), st.integers(1, 6))
def test_metrics_equal_their_definitions(seed: int, ways: int, fixed: int, queries: int) -> None:
    task = toy_task(ways=ways, fixed=fixed, queries=queries, seed=seed % 1000)
    logits = torch.randn(len(task.query_y), ways + fixed, generator=torch.Generator().manual_seed(seed))
    metrics, confusion = score(logits, task)
    true, predicted = task.query_y.numpy(), logits.argmax(1).numpy()
    assert metrics["accuracy"] == pytest.approx(np.mean(true == predicted))
    assert metrics["accuracy_emotions"] == pytest.approx(np.mean((true == predicted)[true < ways]))
    recalls, f1s = [], []
    for label, name in enumerate(task.classes):
        hits = np.sum((true == label) & (predicted == label))
        recalls.append(hits / np.sum(true == label))
        f1s.append(2 * hits / (np.sum(true == label) + np.sum(predicted == label)))
        assert metrics[f"recall_{name}"] == pytest.approx(recalls[-1])
        for other, predicted_name in enumerate(task.classes):
            assert confusion.loc[name, predicted_name] == np.sum((true == label) & (predicted == other))
    assert metrics["uar"] == pytest.approx(np.mean(recalls))
    assert metrics["macro_f1"] == pytest.approx(np.mean(f1s))
    assert metrics["loss"] == pytest.approx(float(-logits.log_softmax(1)[range(len(true)), true].mean()), rel=1e-5)


def test_easy_fixed_classes_lift_the_accuracy_that_the_paper_reports() -> None:
    """Two in five of the emotions right, both fixed classes right: 40 % of the emotions, 57 % of all seven classes."""
    task = toy_task(ways=5, fixed=2, queries=10)
    predicted = task.query_y.clone()
    predicted[task.query_y < 3] = (task.query_y[task.query_y < 3] + 1) % 5
    metrics, _ = score(nn.functional.one_hot(predicted, 7).float(), task)
    assert metrics["accuracy_emotions"] == pytest.approx(2 / 5)
    assert metrics["accuracy"] == pytest.approx(4 / 7)


@pytest.mark.quick
def test_intervals_are_students_t() -> None:
    values = [0.5, 0.7, 0.6, 0.9]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert math.isnan(mean_interval([0.5])[1])


def test_with_several_seeds_the_interval_covers_the_training() -> None:
    values, seeds = [0.1, 0.3, 0.5, 0.7, 0.8, 1.0], [0, 0, 1, 1, 2, 2]
    mean, half = seeded_interval(values, seeds)
    assert (mean, half) == pytest.approx(mean_interval([0.2, 0.6, 0.9]))
    assert seeded_interval(values, [0] * 6) == pytest.approx(mean_interval(values))
    # Three seeds that agree by luck do not make the tasks' own spread vanish.
    assert seeded_interval([0.1, 0.9, 0.1, 0.9, 0.1, 0.9], seeds)[1] == pytest.approx(mean_interval([0.1, 0.9] * 3)[1])


def test_workers_leave_numpys_products_one_thread_and_give_its_threads_back() -> None:
    """Two pools on the same cores only get in each other's way, and products would depend on the number of cores."""

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    with Workers(2) as workers:
        assert set(workers.map(lambda _: max(threads()), range(4))) == {1}
    assert threads() == before


def test_threads_that_draw_weights_at_once_draw_the_same_as_one_after_another() -> None:
    def draw(seed: int) -> torch.Tensor:
        with models.seeded(seed):
            return torch.stack([torch.rand(1) for _ in range(200)])

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, range(40)))
    for seed, at_once in enumerate(drawn):
        assert torch.equal(at_once, draw(seed))


def test_numbers_that_slow_processors_down_count_as_zero_while_there_are_workers() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot")

    def product(_: int) -> float:
        return float(torch.tensor(1e-38) * 1e-3)

    assert product(0) > 0
    for count in (1, 2):
        with Workers(count) as workers:
            assert workers.map(product, range(8)) == [0.0] * 8
            assert product(0) == 0
        assert product(0) > 0
