"""A convolution whose double backward is made of convolutions.

With ⟨g, C(x, w)⟩ trilinear in (g, x, w), every first and second derivative is again the forward, the backward towards the
data, or the backward towards the weights, of other arguments; all three are fused kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function

Optional = torch.Tensor | None


class Images(nn.Module):
    """``(clips, height, width)`` as one-channel images ``(clips, 1, height, width)`` in channels-last order.

    With one channel both memory orders look alike, and PyTorch would take the other one, in which everything up to the
    second convolution is slower.
    """

    route = "native"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A view, where ``x`` is contiguous."""
        if self.route == "plain":
            return x.unsqueeze(1)
        clips, height, width = x.shape
        return x.contiguous().as_strided((clips, 1, height, width), (height * width, 1, width, 1))


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` without groups or dilation, with zero padding; see `metaser.engine.layers` for ``route``."""

    route = "native"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(clips, channels, height, width)`` → ``(clips, filters, height', width')``."""
        if self.route == "twice":
            geometry = list(self.stride), list(self.padding)
            y: torch.Tensor = Convolution.apply(x, self.weight, self.bias, *geometry)  # type: ignore[no-untyped-call]
            return y
        return super().forward(x)


def forward(x: torch.Tensor, w: torch.Tensor, b: Optional, stride: list[int], padding: list[int]) -> torch.Tensor:
    """C(x, w) + b."""
    y: torch.Tensor = torch.ops.aten.convolution(x, w, b, stride, padding, [1, 1], False, [0, 0], 1)
    return y


def backward(
    g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: list[int], padding: list[int], wanted: list[bool]
) -> list[torch.Tensor]:
    """The derivatives of ⟨g, C(x, w) + b⟩ with respect to x, w and b, where wanted."""
    found: list[torch.Tensor] = torch.ops.aten.convolution_backward(
        g, x, w, [w.shape[0]], stride, padding, [1, 1], False, [0, 0], 1, wanted
    )
    return found


class Convolution(Function):
    """C(x, w) + b."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: Optional, *geometry: list[int]) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry, ctx.biased = geometry, b is not None
        return forward(x, w, b, *geometry)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[Optional, ...]:
        x, w = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], True, ctx.biased]
        return *ConvolutionBackward.apply(g, x, w, *ctx.geometry, wanted), None, None  # type: ignore[no-untyped-call]


class ConvolutionBackward(Function):
    """The gradient of ⟨g, C(x, w) + b⟩, itself differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: list[int], padding: list[int], wanted: list[bool]
    ) -> tuple[Optional, ...]:  # fmt: skip
        ctx.save_for_backward(g, x, w)
        ctx.geometry = stride, padding
        ctx.set_materialize_grads(False)
        return tuple(backward(g, x, w, stride, padding, wanted))

    @staticmethod
    def backward(ctx: Any, u: Optional, v: Optional, v_bias: Optional) -> tuple[Optional, ...]:
        """``u``, ``v``, ``v_bias``: what the gradients with respect to x, w and b are contracted with."""
        g, x, w = ctx.saved_tensors
        stride, padding = ctx.geometry
        by_g = by_x = by_w = None
        if v is not None:
            by_g = forward(x, v, v_bias, stride, padding)
            by_x = backward(g, x, v, stride, padding, [True, False, False])[0] if ctx.needs_input_grad[1] else None
        elif v_bias is not None:
            by_g = v_bias.view(1, -1, 1, 1).expand_as(g)
        if u is not None:
            of_u = forward(u, w, None, stride, padding)
            by_g = of_u if by_g is None else by_g + of_u
            by_w = backward(g, u, w, stride, padding, [False, True, False])[1]
        return by_g, by_x, by_w, None, None, None
