"""An LSTM whose double backward is written by hand, exactly, with its loops over time outside Python.

With gates i, f, g, o of the preactivations a_t = x_t Wᵀ + h_{t−1} Uᵀ + b, c_t = f c_{t−1} + i g and h_t = o tanh(c_t),
one set of factors serves every derivative: K_i = g i(1−i), K_f = c_{t−1} f(1−f), K_g = i(1−g²), K_o = tanh(c_t) o(1−o)
and D = o(1−tanh²(c_t)):

- backward:          dc_t = f_{t+1} dc_{t+1} + D dh_t,  da = (K_i dc, K_f dc, K_g dc, K_o dh),  dh_{t−1} += da_t U;
- forward tangent:   ċ_t = f ċ_{t−1} + K_i ȧ_i + K_f ȧ_f + K_g ȧ_g,  ḣ_t = K_o ȧ_o + D ċ_t;
- its backward is the first line with the tangents of all factors added.

By the symmetry of second derivatives the double backward, contracted with u, is the tangent along u of the forward and
the backward pass (Pearlmutter 1994). All products that do not depend on the step before are taken for all steps at once.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

from metaser.engine.layers import loops

_compiling = threading.Lock()


class LSTM(nn.LSTM):
    """`torch.nn.LSTM`, batch first, one direction, from a state of zeros; see `metaser.engine.layers` for ``route``."""

    route = "native"

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers=num_layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(clips, frames, features)`` → the last layer's states ``(clips, frames, hidden)``."""
        if self.route == "native":
            states: torch.Tensor = nn.LSTM.forward(self, x)[0]
            return states
        layer: Callable[..., torch.Tensor] = plain if self.route == "plain" else Layer.apply
        x = x.transpose(0, 1)
        for index in range(self.num_layers):
            w, u, b, b_too = (getattr(self, f"{name}_l{index}") for name in PARAMETERS)
            x = layer(x, w, u, b + b_too)
        return x.transpose(0, 1)


PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def plain(x: torch.Tensor, w: torch.Tensor, u: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One layer in elementary operations: ``x`` ``(frames, clips, features)`` → ``(frames, clips, hidden)``."""
    h = c = None
    states = []
    for a in F.linear(x, w, b).unbind(0):
        i, f, g, o = (a if h is None else a + F.linear(h, u)).chunk(4, dim=-1)
        c = i.sigmoid() * g.tanh() if c is None else f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


@functools.cache
def _compiled() -> dict[str, Callable[..., Any]]:
    """The loops of `metaser.engine.layers.loops`, compiled: no interpreter lock is held and no Python runs inside them."""
    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return {name: torch.jit.script(getattr(loops, name)) for name in loops.NAMES}


def compiled(name: str) -> Callable[..., Any]:
    """One of the loops, compiled when it is first asked for."""
    return _compiled()[name]


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """``x`` ``(…, k)`` times the transpose of ``w`` ``(n, k)``, by the faster of PyTorch's two matrix libraries.

    On processors where MKL takes its slow path oneDNN is up to twice as fast, copies of transposed arguments included.
    """
    if not loops.fused(x):
        return F.linear(x, w)
    flat = x.reshape(-1, x.shape[-1])
    y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(flat, w, None, "none", [], "")
    return y.view(*x.shape[:-1], -1)


class Layer(Function):
    """One LSTM layer, ``(frames, clips, features)`` → ``(frames, clips, hidden)``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, u: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        gates = product(x, w).add_(b)
        h: torch.Tensor
        h, c = compiled("forward")(gates, u)
        ctx.save_for_backward(x, w, u, b, gates, torch.cat([x, h[:-1]], dim=2), c, *factors(gates, c))
        return h[1:]

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found: tuple[torch.Tensor | None, ...]
        found = LayerBackward.apply(g, *ctx.saved_tensors, ctx.needs_input_grad[0])  # type: ignore[no-untyped-call]
        return found


def factors(gates: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K ``(frames, clips, 4, hidden)``, D and tanh(c), each ``(frames, clips, hidden)``."""
    z = by_gate(gates)
    i, f, g, o = z.unbind(2)
    tanh_c = torch.tanh(c[1:])
    k = torch.empty_like(z)
    torch.mul(i - i * i, g, out=k[:, :, 0])
    torch.mul(f - f * f, c[:-1], out=k[:, :, 1])
    torch.mul(i, 1 - g * g, out=k[:, :, 2])
    torch.mul(o - o * o, tanh_c, out=k[:, :, 3])
    return k, o * (1 - tanh_c * tanh_c), tanh_c


def by_gate(gates: torch.Tensor) -> torch.Tensor:
    """``(frames, clips, 4·hidden)`` as ``(frames, clips, 4, hidden)``."""
    return gates.view(*gates.shape[:2], 4, -1)


class LayerBackward(Function):
    """The gradients of x, W, U and b, themselves differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, u: torch.Tensor, b: torch.Tensor,
        gates: torch.Tensor, xh: torch.Tensor, c: torch.Tensor, k: torch.Tensor, d: torch.Tensor, tanh_c: torch.Tensor,
        wants_x: bool,
    ) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
        f = by_gate(gates)[:, :, 1]
        da, dh, dc = compiled("backward")(g.contiguous(), u.t().contiguous(), k, d, f)
        rows = da.flatten(2).flatten(0, 1)
        by_x = product(da.flatten(2), w.t()) if wants_x else None
        by_w, by_u = apart(product(rows.t(), xh.flatten(0, 1).t()), w)
        ctx.save_for_backward(w, u, gates, xh, c, k, d, tanh_c, da, dh, dc)
        ctx.set_materialize_grads(False)
        return by_x, by_w, by_u, rows.sum(0)

    @staticmethod
    def backward(
        ctx: Any, x_dot: torch.Tensor | None, w_dot: torch.Tensor | None, u_dot: torch.Tensor | None,
        b_dot: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
        """The tangent along (x_dot, w_dot, u_dot, b_dot) of the forward pass, and of the backward pass with g held."""
        w, u, gates, xh, c, k, d, tanh_c, da, dh, dc = ctx.saved_tensors
        w_dot = torch.zeros_like(w) if w_dot is None else w_dot
        u_dot = torch.zeros_like(u) if u_dot is None else u_dot
        a_dot = product(xh, torch.cat([w_dot, u_dot], dim=1))
        if x_dot is not None:
            a_dot += product(x_dot, w)
        if b_dot is not None:
            a_dot += b_dot
        f = by_gate(gates)[:, :, 1]
        h_dot, c_dot = compiled("forward_tangent")(by_gate(a_dot), u, k, d, f)
        da_dot, d_dot, f_dot = factor_tangents(by_gate(gates), by_gate(a_dot), c, c_dot, tanh_c, dh, dc)
        dh_dot = torch.zeros_like(dh)
        dh_dot[:-1] = product(da[1:].flatten(2), u_dot.t())
        da_dot = compiled("backward_tangent")(dh_dot, da_dot, d_dot, f_dot, u.t().contiguous(), k, d, f)
        rows, rows_dot = (t.flatten(2).flatten(0, 1) for t in (da, da_dot))
        by_x = None
        if ctx.needs_input_grad[1]:
            by_x = loops.add_product(product(rows, w_dot.t()), rows_dot, w.t()).view(*d.shape[:2], -1)
        if x_dot is None:
            x_dot = torch.zeros_like(xh[:, :, : w.shape[1]])
        xh_dot = torch.cat([x_dot, h_dot[:-1]], dim=2).flatten(0, 1)
        both = loops.add_product(product(rows_dot.t(), xh.flatten(0, 1).t()), rows.t(), xh_dot.t())
        return h_dot[1:], by_x, *apart(both, w), rows_dot.sum(0), *[None] * 7


def apart(both: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What belongs to W and what to U of ``(4·hidden, features + hidden)``."""
    return both[:, : w.shape[1]].contiguous(), both[:, w.shape[1] :].contiguous()


def factor_tangents(
    z: torch.Tensor, a_dot: torch.Tensor, c: torch.Tensor, c_dot: torch.Tensor, tanh_c: torch.Tensor,
    dh: torch.Tensor, dc: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """(dc·K̇_i, dc·K̇_f, dc·K̇_g, dh·K̇_o) stacked ``(frames, clips, 4, hidden)``, dh·Ḋ and dc·ḟ."""
    i, f, g, o = z.unbind(2)
    i_slope, f_slope, g_slope, o_slope = i - i * i, f - f * f, 1 - g * g, o - o * o
    i_dot, f_dot = i_slope * a_dot[:, :, 0], f_slope * a_dot[:, :, 1]
    g_dot, o_dot = g_slope * a_dot[:, :, 2], o_slope * a_dot[:, :, 3]
    flat = 1 - tanh_c * tanh_c
    tanh_dot = flat * c_dot[1:]
    out = torch.empty_like(z)
    torch.mul(dc, torch.addcmul(g_dot * i_slope, g * (1 - 2 * i), i_dot), out=out[:, :, 0])
    torch.mul(dc, torch.addcmul(c_dot[:-1] * f_slope, c[:-1] * (1 - 2 * f), f_dot), out=out[:, :, 1])
    torch.mul(dc, torch.addcmul(i_dot * g_slope, i * g, g_dot, value=-2), out=out[:, :, 2])
    torch.mul(dh, torch.addcmul(tanh_dot * o_slope, tanh_c * (1 - 2 * o), o_dot), out=out[:, :, 3])
    return out, dh * torch.addcmul(o_dot * flat, o * tanh_c, tanh_dot, value=-2), dc * f_dot
