"""MAML by hand: logistic regression with one weight and one inner step (the tutorial's slides, equations 16 to 19).

ŷ = σ(a + b x) with a fixed, squared error L = (y − ŷ)², support point (x_S, y_S), query point (x_Q, y_Q), inner learning
rate γ, outer β:

    (17)  b_e = b₀ + 2 γ (y_S − ŷ_S) ŷ_S (1 − ŷ_S) x_S
    (18)  ∂b_e/∂b₀ = 1 − 2 γ x_S² ŷ_S (1 − ŷ_S) (2 ŷ_S − 3 ŷ_S² + 2 y_S ŷ_S − y_S)
    (19)  b₀ ← b₀ + 2 β (y_Q − ŷ_Q) ŷ_Q (1 − ŷ_Q) x_Q · ∂b_e/∂b₀,    ŷ_Q = σ(a + b_e x_Q)

The slides print (18) with (y − ŷ) in place of ŷ (1 − ŷ), and (19) without x_Q besides: `printed_derivative` and
`printed_gradient` are these, so that a test can show what they give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Point:
    """A point: input and the answer wanted, 0 or 1."""

    x: float
    y: float


def predicted(a: float, b: float, x: float) -> float:
    """ŷ = σ(a + b x)."""
    return float(expit(a + b * x))


def loss(a: float, b: float, point: Point) -> float:
    """(y − ŷ)²."""
    return (point.y - predicted(a, b, point.x)) ** 2


def gradient(a: float, b: float, point: Point) -> float:
    """∂L/∂b = −2 (y − ŷ) ŷ (1 − ŷ) x."""
    guess = predicted(a, b, point.x)
    return -2 * (point.y - guess) * guess * (1 - guess) * point.x


def adapted(a: float, b: float, support: Point, gamma: float) -> float:
    """b_e, equation (17): one step of gradient descent on the support point."""
    return b - gamma * gradient(a, b, support)


def derivative(a: float, b: float, support: Point, gamma: float) -> float:
    """∂b_e/∂b₀, equation (18) put right."""
    guess = predicted(a, b, support.x)
    return 1 - 2 * gamma * support.x**2 * guess * (1 - guess) * bracket(guess, support.y)


def meta_gradient(a: float, b: float, support: Point, query: Point, gamma: float) -> float:
    """dL_Q/db₀ at b_e: what equation (19), put right, descends along."""
    return gradient(a, adapted(a, b, support, gamma), query) * derivative(a, b, support, gamma)


def printed_derivative(a: float, b: float, support: Point, gamma: float) -> float:
    """Equation (18) as the slides print it; wrong."""
    guess = predicted(a, b, support.x)
    return 1 - 2 * gamma * support.x**2 * (support.y - guess) * bracket(guess, support.y)


def printed_gradient(a: float, b: float, support: Point, query: Point, gamma: float) -> float:
    """The direction of equation (19) as the slides print it; wrong."""
    guess = predicted(a, adapted(a, b, support, gamma), query.x)
    return -2 * (query.y - guess) * guess * (1 - guess) * printed_derivative(a, b, support, gamma)


def bracket(guess: float, y: float) -> float:
    """2 ŷ − 3 ŷ² + 2 y ŷ − y, which is right in both."""
    return 2 * guess - 3 * guess**2 + 2 * y * guess - y


def learned(
    a: float, b: float, tasks: list[tuple[Point, Point]], gamma: float, beta: float, iterations: int
) -> np.ndarray:
    """b₀ after every iteration of equation (19), summed over tasks of one support and one query point: ``(iterations + 1,)``."""
    path = [b]
    for _ in range(iterations):
        path.append(
            path[-1] - beta * sum(meta_gradient(a, path[-1], support, query, gamma) for support, query in tasks)
        )
    return np.array(path)
