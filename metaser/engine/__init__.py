"""Layouts: modules that compute a network fast, and that learn2learn's own ``clone()`` and ``adapt()`` work on.

Algorithms are written once, in learn2learn's words; which module they clone and adapt is the layout's business:

- `PlainEngine` (``learn2learn``): the network itself, nothing else; slow and trusted;
- `TaskEngine` (``task``): a task at a time, each thread with its own copy of the network (any network; the default on a CPU);
- `LowRankEngine` (``low-rank``): many tasks at once, adapted weights never formed (fully connected networks on a CPU);
- `StackedEngine` (``stacked``): many tasks at once by `torch.vmap` (the default on a GPU).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from metaser import config
from metaser.engine.base import Batch, Engine, Flat, Group, Outcome, Weights
from metaser.engine.lowrank import LowRankEngine
from metaser.engine.plain import PlainEngine
from metaser.engine.stacked import StackedEngine
from metaser.engine.task import TaskEngine
from metaser.runtime.errors import UserError

__all__ = ["Batch", "Engine", "Flat", "Group", "LowRankEngine", "Outcome", "PlainEngine", "StackedEngine", "TaskEngine", "Weights",
           "build", "device"]  # fmt: skip


def device(options: config.Engine) -> torch.device:
    """Where to compute.

    Raises:
        UserError: if ``cuda`` is asked for and there is none.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device: cuda, but PyTorch finds no GPU here; use cpu or auto")
    return torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")


@cache
def has_bfloat16_lstm(device: str) -> bool:
    """Whether PyTorch trains an LSTM in bfloat16 on this machine; oneDNN has none for processors without AVX-512."""
    lstm = nn.LSTM(1, 1, device=device)
    try:
        with torch.autocast(device, torch.bfloat16):
            output, _ = lstm(torch.zeros(1, 1, 1, device=device))
        output.sum().backward()
    except RuntimeError:
        return False
    return True


def build(model: nn.Module, options: config.Engine, low_rank: bool = True) -> Engine:
    """The engine that the options name, or the one that is fastest where they leave it open.

    Args:
        model: The network; it may still move between devices of one kind, not change its layers.
        options: The layout, and the inexact routes, which are off unless asked for.
        low_rank: Whether the algorithm's inner steps scale all of a weight's gradient alike (Meta-SGD's do not).

    Raises:
        UserError: if the network or the algorithm does not go with what the options ask.
    """
    where = next(model.parameters()).device.type
    recurrent = any(isinstance(module, nn.LSTM) for module in model.modules())
    if options.precision == "bfloat16" and recurrent and not has_bfloat16_lstm(where):
        raise UserError(f"engine.precision: bfloat16, but PyTorch has no LSTM in it for this processor "
                        f"({torch.backends.cpu.get_cpu_capability()}), and {type(model).__name__} is one; use float32")  # fmt: skip
    exact = options.curvature == "exact"
    if not exact and not getattr(model, "smooth", False):
        raise UserError(
            "engine.curvature: finite differences are wrong for networks with kinks (ReLU, max-pooling); use exact"
        )
    simple = LowRankEngine.takes(model) and low_rank and exact and options.precision == "float32"
    layout = options.layout
    if layout == "auto":
        layout = "stacked" if where == "cuda" and exact else "low-rank" if simple and where != "cuda" else "task"
    if layout == "low-rank" and not simple:
        raise UserError("engine.layout: low-rank needs a fully connected network, float32, exact curvature and one "
                        "inner learning rate; use task")  # fmt: skip
    if layout != "task" and not exact:
        raise UserError("engine.curvature: finite differences go one task at a time; use engine.layout: task")
    if layout == "learn2learn" and options.precision != "float32":
        raise UserError("engine.layout: learn2learn computes in float32 alone; leave engine.precision out")
    engines: dict[str, type[Engine]] = {"learn2learn": PlainEngine, "task": TaskEngine, "stacked": StackedEngine,
                                        "low-rank": LowRankEngine}  # fmt: skip
    return engines[layout](model, options)
