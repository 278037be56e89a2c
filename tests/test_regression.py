"""The tutorial's regression by hand: equations (18) and (19), put right, against autograd and differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from metaser.algorithms import regression
from metaser.algorithms.regression import Point

pytestmark = pytest.mark.arithmetic

numbers = st.floats(-2, 2)
answers = st.sampled_from([0.0, 1.0])
points = st.builds(Point, numbers, answers)
rates = st.floats(0.01, 2)


def by_autograd(a: float, b: float, support: Point, query: Point, gamma: float) -> tuple[float, float]:
    """∂b_e/∂b₀ and dL_Q/db₀."""
    start = torch.tensor(b, dtype=torch.float64, requires_grad=True)

    def loss(b: torch.Tensor, point: Point) -> torch.Tensor:
        return (point.y - torch.sigmoid(a + b * point.x)) ** 2

    (step,) = torch.autograd.grad(loss(start, support), start, create_graph=True)
    after = start - gamma * step
    (derivative,) = torch.autograd.grad(after, start, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss(after, query), start)
    return derivative.item(), gradient.item()


@given(numbers, numbers, points, points, rates)
def test_the_corrected_equations_are_the_derivatives(
    a: float, b: float, support: Point, query: Point, gamma: float
) -> None:
    derivative, gradient = by_autograd(a, b, support, query, gamma)
    assert regression.derivative(a, b, support, gamma) == pytest.approx(derivative, abs=1e-12)
    assert regression.meta_gradient(a, b, support, query, gamma) == pytest.approx(gradient, abs=1e-12)
    step = 1e-6
    up, down = (regression.loss(a, regression.adapted(a, b + d, support, gamma), query) for d in (step, -step))
    assert regression.meta_gradient(a, b, support, query, gamma) == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_the_printed_ones_are_not() -> None:
    support, query = Point(1.4, 1.0), Point(-0.8, 0.0)
    true = by_autograd(0.3, -0.7, support, query, 0.5)[1]
    assert true == pytest.approx(-0.236432, abs=5e-7)
    assert regression.meta_gradient(0.3, -0.7, support, query, 0.5) == pytest.approx(true, abs=1e-12)
    assert regression.printed_gradient(0.3, -0.7, support, query, 0.5) == pytest.approx(0.294049, abs=5e-7), (
        "the wrong sign"
    )
    assert regression.derivative(0.3, -0.7, support, 0.1) == pytest.approx(0.9994899, abs=5e-8)
    assert regression.printed_derivative(0.3, -0.7, support, 0.1) == pytest.approx(0.9984831, abs=5e-8)


@given(numbers, numbers, points, points)
def test_a_step_along_the_corrected_gradient_lessens_the_query_loss(
    a: float, b: float, support: Point, query: Point
) -> None:
    direction = regression.meta_gradient(a, b, support, query, 0.5)
    assume(abs(direction) > 1e-3)

    def after(b: float) -> float:
        return regression.loss(a, regression.adapted(a, b, support, 0.5), query)

    assert after(b - 1e-3 * direction) < after(b)


def test_learning_by_it_converges_to_where_the_gradients_cancel() -> None:
    tasks = [(Point(1.0, 1.0), Point(0.5, 1.0)), (Point(-1.0, 1.0), Point(-1.2, 0.0))]
    path = regression.learned(0.1, -1.0, tasks, 0.5, 0.5, 3000)
    assert len(path) == 3001
    total = [
        sum(regression.loss(0.1, regression.adapted(0.1, b, support, 0.5), query) for support, query in tasks)
        for b in path
    ]
    assert (np.diff(total) <= 1e-12).all()
    assert total[-1] < 0.5 * total[0]
