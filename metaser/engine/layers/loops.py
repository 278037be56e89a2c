"""The LSTM's loops over time, in the part of Python that TorchScript compiles; `metaser.engine.layers.recurrent` has the algebra.

Sizes: T frames, N clips, H hidden units. Slices are taken once, before a loop, not in it.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return"
# No "from __future__ import annotations": TorchScript reads the annotations themselves.

from typing import Tuple  # noqa: UP035  (TorchScript's own name for it)

import torch
from torch import Tensor

NAMES = ("forward", "backward", "forward_tangent", "backward_tangent")


if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):

    def fused(x: Tensor) -> bool:
        """Whether oneDNN multiplies such matrices."""
        return x.dtype == torch.float32 and x.device.type == "cpu"

    def add_product(z: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """Z + x wᵀ."""
        if fused(x):
            return torch.ops.mkldnn._linear_pointwise(x, z, w, None, "add")
        return torch.addmm(z, x, w.t())

    def accumulate(z: Tensor, x: Tensor, w: Tensor) -> None:
        """Adds x wᵀ to z; oneDNN's own costs of a call are worth it from some 32 rows on."""
        if fused(x) and x.shape[0] >= 32:
            z.copy_(torch.ops.mkldnn._linear_pointwise(x, z, w, None, "add"))
        else:
            z.addmm_(x, w.t())

else:

    def fused(x: Tensor) -> bool:
        """Whether oneDNN multiplies such matrices."""
        return False

    def add_product(z: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """Z + x wᵀ."""
        return torch.addmm(z, x, w.t())

    def accumulate(z: Tensor, x: Tensor, w: Tensor) -> None:
        """Adds x wᵀ to z."""
        z.addmm_(x, w.t())


def forward(gates: Tensor, u: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """Turns ``gates`` (T, N, 4H) from x Wᵀ + b into i, f, g, o, in place; returns h and c, (T+1, N, H), zeros first."""
    frames, clips, hidden = gates.shape[0], gates.shape[1], u.shape[1]
    h = torch.zeros((frames + 1, clips, hidden), dtype=gates.dtype, device=gates.device)
    c = torch.zeros_like(h)
    hs, cs, zs = h.unbind(0), c.unbind(0), gates.unbind(0)
    input_forget = gates[:, :, : 2 * hidden].unbind(0)
    i, f = gates[:, :, :hidden].unbind(0), gates[:, :, hidden : 2 * hidden].unbind(0)
    g, o = gates[:, :, 2 * hidden : 3 * hidden].unbind(0), gates[:, :, 3 * hidden :].unbind(0)
    for t in range(frames):
        if t > 0:
            accumulate(zs[t], hs[t], u)
        input_forget[t].sigmoid_()
        g[t].tanh_()
        o[t].sigmoid_()
        torch.mul(i[t], g[t], out=cs[t + 1])
        if t > 0:
            cs[t + 1].addcmul_(f[t], cs[t])
        torch.tanh(cs[t + 1], out=hs[t + 1])
        hs[t + 1].mul_(o[t])
    return h, c


def backward(g: Tensor, u_t: Tensor, k: Tensor, d: Tensor, f: Tensor) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006
    """From the gradient ``g`` (T, N, H) of the states: da (T, N, 4, H), dh and dc; ``u_t`` is Uᵀ, (H, 4H)."""
    frames, clips, hidden = g.shape[0], g.shape[1], g.shape[2]
    da, dc, dh = torch.empty_like(k), torch.empty_like(g), g.clone()
    k_ifg, k_o = k[:, :, :3].unbind(0), k[:, :, 3].unbind(0)
    da_ifg, da_o = da[:, :, :3].unbind(0), da[:, :, 3].unbind(0)
    rows = da.view(frames, clips, 4 * hidden).unbind(0)
    dcs, dc_wide, dhs, ds, fs = dc.unbind(0), dc.unsqueeze(2).unbind(0), dh.unbind(0), d.unbind(0), f.unbind(0)
    for step in range(frames):
        t = frames - 1 - step
        if step > 0:
            accumulate(dhs[t], rows[t + 1], u_t)
            torch.mul(dcs[t + 1], fs[t + 1], out=dcs[t])
            dcs[t].addcmul_(dhs[t], ds[t])
        else:
            torch.mul(dhs[t], ds[t], out=dcs[t])
        torch.mul(k_ifg[t], dc_wide[t], out=da_ifg[t])
        torch.mul(k_o[t], dhs[t], out=da_o[t])
    return da, dh, dc


def forward_tangent(a_dot: Tensor, u: Tensor, k: Tensor, d: Tensor, f: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
    """Completes ``a_dot`` (T, N, 4, H) by ḣ_{t−1} Uᵀ, in place; returns ḣ and ċ, (T+1, N, H), zeros first."""
    frames, clips, hidden = d.shape[0], d.shape[1], d.shape[2]
    h = torch.zeros((frames + 1, clips, hidden), dtype=d.dtype, device=d.device)
    c = torch.zeros_like(h)
    hs, cs, ds, fs = h.unbind(0), c.unbind(0), d.unbind(0), f.unbind(0)
    rows = a_dot.view(frames, clips, 4 * hidden).unbind(0)
    ks = k.view(frames, clips, 4 * hidden).unbind(0)
    for t in range(frames):
        if t > 0:
            accumulate(rows[t], hs[t], u)
        parts = (rows[t] * ks[t]).view(clips, 4, hidden)
        torch.sum(parts[:, :3], dim=1, out=cs[t + 1])
        if t > 0:
            cs[t + 1].addcmul_(fs[t], cs[t])
        torch.addcmul(parts[:, 3], ds[t], cs[t + 1], out=hs[t + 1])
    return h, c


def backward_tangent(
    dh_dot: Tensor, da_dot: Tensor, d_dot: Tensor, f_dot: Tensor, u_t: Tensor, k: Tensor, d: Tensor, f: Tensor
) -> Tensor:
    """Completes ``da_dot`` (T, N, 4, H), which holds what the factors' tangents give, in place.

    ``dh_dot`` (T, N, H) holds da_{t+1} U̇, and is completed too; ``d_dot`` is dh·Ḋ and ``f_dot`` dc·ḟ.
    """
    frames, clips, hidden = dh_dot.shape[0], dh_dot.shape[1], dh_dot.shape[2]
    k_ifg, k_o = k[:, :, :3].unbind(0), k[:, :, 3].unbind(0)
    da_ifg, da_o = da_dot[:, :, :3].unbind(0), da_dot[:, :, 3].unbind(0)
    rows = da_dot.view(frames, clips, 4 * hidden).unbind(0)
    hs, ds, fs, d_dots, f_dots = dh_dot.unbind(0), d.unbind(0), f.unbind(0), d_dot.unbind(0), f_dot.unbind(0)
    dc_dot = torch.zeros_like(hs[0])
    for step in range(frames):
        t = frames - 1 - step
        dh = hs[t]
        if step > 0:
            accumulate(dh, rows[t + 1], u_t)
            dc_dot = torch.addcmul(f_dots[t + 1], dc_dot, fs[t + 1]).add_(d_dots[t]).addcmul_(dh, ds[t])
        else:
            dc_dot = torch.addcmul(d_dots[t], dh, ds[t])
        da_ifg[t].addcmul_(k_ifg[t], dc_dot.unsqueeze(1))
        da_o[t].addcmul_(k_o[t], dh)
    return da_dot
