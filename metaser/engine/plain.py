"""The network itself, nothing of the engine: layout ``learn2learn``, slow and trusted, which all others are proved against."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from metaser import config
from metaser.engine.base import Engine
from metaser.engine.layers import set_route


class PlainEngine(Engine):
    """Layout ``learn2learn``: it clones and adapts the network as it is; see `Engine` for the arguments.

    The layers compute by elementary operations (route ``plain``), so that every derivative is PyTorch's own.
    """

    def __init__(self, model: nn.Module, options: config.Engine) -> None:
        super().__init__(model, options)
        set_route(model, "plain")
        self.module = model

    def part(self, module: nn.Module, chosen: Callable[[str], bool]) -> nn.Module:
        """See `Engine.part`; a child is taken whole, or left out whole."""
        names = {name for name, child in module.named_children()
                 if any(chosen(f"{name}.{own}") for own, _ in child.named_parameters())}  # fmt: skip
        return Part(module, names)


class Part(nn.Module):
    """A network of whose children only some are parameters of this module.

    Args:
        whole: The network.
        names: Of the children.
    """

    def __init__(self, whole: nn.Module, names: set[str]) -> None:
        super().__init__()
        self.__dict__["whole"] = whole
        for name in sorted(names):
            self.add_module(name, getattr(whole, name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's answer with this module's children in it."""
        shell = copy.copy(self.__dict__["whole"])
        shell.__dict__["_modules"] = {**shell._modules, **self._modules}
        answer: torch.Tensor = shell(x)
        return answer
