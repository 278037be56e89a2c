"""Batch normalisation by the statistics of the batch at hand, right and fast in second order.

With r = (var + ε)^-½, x̂ = (x − mean)·r, bars for means over a channel, and the gradient of the loss with respect to the
output g, the first derivative is ∂x = γ r (g − ḡ − x̂ q), q = mean(g x̂). Contracted with u it is M γ r A, where
A = mean(u g) − ū ḡ − p q and p = mean(u x̂), over M values a channel. Hence, channel by channel,

    ∂⟨u, ∂x⟩/∂g = γ r (u − ū − x̂ p)                                   (the first derivative's own kernel, applied to u)
    ∂⟨u, ∂x⟩/∂x = γ r² (−q (u − ū) − p (g − ḡ) + x̂ (2 p q − A))
    ∂⟨u, ∂x⟩/∂γ = M r A

and the gradients Σ g x̂ of γ and Σ g of β add their own simple terms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function


class BatchNorm(nn.Module):
    """Batch normalisation of dimension 1, any number of dimensions after it, without running statistics.

    Args:
        features: Channels.
        eps: ε.

    Attributes:
        reference: Mean and variance are those of the first so many clips; of all when None.
    """

    route = "native"
    reference: int | None = None

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(clips, channels, …)``, normalised over all but the channels."""
        if self.route == "plain" or self.reference is not None:
            return plain(x, self.weight, self.bias, self.eps, self.reference)
        return normalise(x, self.weight, self.bias, self.eps, twice=self.route == "twice")


def normalise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, twice: bool) -> torch.Tensor:
    """Normalised ``x`` ``(clips, channels, …)``, by the kernel, or differentiable twice."""
    if twice:
        y: torch.Tensor = Normalisation.apply(x, weight, bias, eps)  # type: ignore[no-untyped-call]
        return y
    return torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)[0]


def plain(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, reference: int | None = None
) -> torch.Tensor:
    """The same in elementary operations, by the statistics of the first ``reference`` clips."""
    over = [dimension for dimension in range(x.dim()) if dimension != 1]
    variance, mean = torch.var_mean(x[:reference], dim=over, keepdim=True, correction=0)
    shape = spread(x)
    return (x - mean) * torch.rsqrt(variance + eps) * weight.view(shape) + bias.view(shape)


def spread(x: torch.Tensor) -> list[int]:
    """The shape in which a value per channel is broadcast over ``x``."""
    return [1, -1] + [1] * (x.dim() - 2)


class Normalisation(Function):
    """γ x̂ + β."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        y, mean, r = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, r)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *NormalisationBackward.apply(g, *ctx.saved_tensors, ctx.eps), None  # type: ignore[no-untyped-call]


class NormalisationBackward(Function):
    """The gradients of x, γ and β, themselves differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor, r: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        by_x, by_weight, by_bias = kernel(g, x, weight, mean, r, eps)
        ctx.save_for_backward(g, x, weight, mean, r, by_weight, by_bias)
        ctx.eps = eps
        return by_x, by_weight, by_bias

    @staticmethod
    def backward(
        ctx: Any, u: torch.Tensor, v_weight: torch.Tensor, v_bias: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """``u``, ``v_weight``, ``v_bias``: what the gradients of x, γ and β are contracted with."""
        g, x, weight, mean, r, g_xhat, g_sum = ctx.saved_tensors
        over = [dimension for dimension in range(x.dim()) if dimension != 1]
        shape, count = spread(x), x.numel() // x.shape[1]
        by_g, u_xhat, u_sum = kernel(u, x, weight, mean, r, ctx.eps)
        p, q, u_mean, g_mean = u_xhat / count, g_xhat / count, u_sum / count, g_sum / count
        a = (u * g).sum(over) / count - u_mean * g_mean - p * q
        by_weight = count * r * a
        by_g = by_g.addcmul(x, (v_weight * r).view(shape)) + (v_bias - v_weight * mean * r).view(shape)
        scale = weight * r * r
        of_xhat = scale * (2 * p * q - a) - v_weight * r * q
        constant = scale * (q * u_mean + p * g_mean) - v_weight * r * g_mean - of_xhat * mean * r
        by_x = torch.addcmul(constant.view(shape), x, (of_xhat * r).view(shape))
        by_x = by_x.addcmul_(u, (-scale * q).view(shape)).addcmul_(g, (v_weight * r - scale * p).view(shape))
        return by_g, by_x, by_weight, None, None, None


def kernel(
    g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor, r: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """γ r (g − ḡ − x̂ mean(g x̂)), Σ g x̂ and Σ g, in one fused pass."""
    everything = [True, True, True]
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, r, True, eps, everything
    )
    return found
