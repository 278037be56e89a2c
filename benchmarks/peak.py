"""The machine's own speed: float32 matrix products with PyTorch's default threads, by both libraries that PyTorch has.

`torch.matmul` is MKL's product in PyTorch's wheels, and oneDNN's, which convolutions and LSTMs use, can be twice as fast
on processors that are not Intel's. A share of the one alone could exceed 1 or flatter us, so both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

#: Sides of the square matrices; the faster one is what counts.
SIDES = (1024, 1536)

#: Seconds that one measurement of one library takes, about, where two products do not take longer.
TURN_S = 0.05


class Peak:
    """Both products at their better size; call it for GFLOP/s by library, ``gemm`` and, where it is there, ``onednn``."""

    def __init__(self, sides: tuple[int, ...] = SIDES) -> None:
        self.products: dict[str, tuple[Callable[[], object], int, int]] = {}
        for name, product in (("gemm", torch.matmul), ("onednn", onednn)):
            try:
                tried = {side: (timed(bound(product, side), repeats=3), bound(product, side)) for side in sides}
            except (AttributeError, NotImplementedError, RuntimeError):  # this PyTorch has no oneDNN
                continue
            side = max(tried, key=lambda side: side**3 / tried[side][0])
            seconds, call = tried[side]
            self.products[name] = (call, 2 * side**3, max(2, round(TURN_S / seconds)))

    def __call__(self) -> dict[str, float]:
        """GFLOP/s of each library now."""
        return {
            name: operations / timed(call, repeats) / 1e9 for name, (call, operations, repeats) in self.products.items()
        }


def onednn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x wᵀ by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")


def bound(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], side: int) -> Callable[[], object]:
    """The product of two square matrices as a function of nothing."""
    x, w = torch.rand(side, side), torch.rand(side, side)
    return lambda: product(x, w)


def timed(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
