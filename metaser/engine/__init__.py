"""The inner loop's engine: what an algorithm needs to do with a network at weights that are not its own.

Algorithms are written once, in the terms of `Engine`; how the work is laid out is the engine's business:

- `TaskEngine`: a task at a time, each thread with its own copy of the network (any network; the default on a CPU);
- `LowRankEngine`: many tasks at once, adapted weights never formed (fully connected networks on a CPU);
- `StackedEngine`: many tasks at once by `torch.vmap` (the default on a GPU).
"""

from __future__ import annotations

import torch
from torch import nn

from metaser import config
from metaser.engine.base import Engine, Group, Outcome, Slopes, Weights
from metaser.engine.lowrank import LowRankEngine
from metaser.engine.stacked import StackedEngine
from metaser.engine.task import TaskEngine
from metaser.errors import UserError

__all__ = [
    "Engine",
    "Group",
    "LowRankEngine",
    "Outcome",
    "Slopes",
    "StackedEngine",
    "TaskEngine",
    "Weights",
    "build",
    "device",
]


def device(options: config.Engine) -> torch.device:
    """Where to compute.

    Raises:
        UserError: if ``cuda`` is asked for and there is none.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device: cuda, but PyTorch finds no GPU here; use cpu or auto")
    return torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")


def build(model: nn.Module, options: config.Engine, low_rank: bool = True) -> Engine:
    """The engine that the options name, or the one that is fastest where they leave it open.

    Args:
        model: The network; it may still move between devices of one kind, not change its layers.
        options: The layout, and the inexact routes, which are off unless asked for.
        low_rank: Whether the algorithm's inner steps scale all of a weight's gradient alike (Meta-SGD's do not).

    Raises:
        UserError: if the network or the algorithm does not go with what the options ask.
    """
    exact = options.curvature == "exact"
    if not exact and not getattr(model, "smooth", False):
        raise UserError(
            "engine.curvature: finite differences are wrong for networks with kinks (ReLU, max-pooling); use exact"
        )
    simple = LowRankEngine.takes(model) and low_rank and exact and options.precision == "float32"
    layout = options.layout
    if layout == "auto":
        on_gpu = next(model.parameters()).device.type == "cuda"
        layout = "stacked" if on_gpu and exact else "low-rank" if simple and not on_gpu else "task"
    if layout == "low-rank" and not simple:
        raise UserError("engine.layout: low-rank needs a fully connected network, float32, exact curvature and one "
                        "inner learning rate; use task")  # fmt: skip
    if layout == "stacked" and not exact:
        raise UserError("engine.curvature: finite differences go one task at a time; use engine.layout: task")
    engines: dict[str, type[Engine]] = {"task": TaskEngine, "stacked": StackedEngine, "low-rank": LowRankEngine}
    return engines[layout](model, options)
