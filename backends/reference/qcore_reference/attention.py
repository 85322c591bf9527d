"""Scaled dot product attention of floats."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Attention
from qcore.operators.attention import check_attention
from qcore_reference.arithmetic import f32, fma
from qcore_reference.gates import COEFFICIENTS, LN2_HIGH, LN2_LOW, LOG2_E

OPS = (OpSpec(Attention, activations=()),)


def exp(y: Tensor) -> Tensor:
    """exp(y) for y <= 0, 0 where 2**n would not be a normal number; NaN for NaN."""
    y = torch.maximum(y, f32(-88.0))
    n = torch.round(y * LOG2_E)
    r = fma(n, f32(-LN2_LOW), fma(n, f32(-LN2_HIGH), y))
    series = f32(COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        series = fma(series, r, f32(coefficient))
    power = ((n.nan_to_num().int() + 127) << 23).view(torch.float32)
    return fma(power, fma(r * r, series, r), power)


def build(operator: Attention) -> Kernel:
    """Chains of fma, in the order of the width, then of the keys; a key that takes no part leaves them as they are."""

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        mask = check_attention(q, k, v, mask)
        queries, keys = q.shape[2], k.shape[2]
        sums = torch.zeros(*q.shape[:3], keys, dtype=torch.float32)
        for d in range(q.shape[3]):
            sums = fma(q[..., d, None], k[..., None, :, d], sums)
        scores = fma(sums, f32(operator.factor(q.shape[3])), f32(0.0) if mask is None else mask)
        there = torch.ones(queries, keys, dtype=torch.bool)
        if operator.causal:
            there = there.tril()
        known = scores.where(there & ~scores.isnan(), f32(-torch.inf))
        lowest = torch.finfo(torch.float32).min
        greatest = torch.cat((known, known.new_full((*q.shape[:3], 1), lowest)), dim=-1).amax(dim=-1, keepdim=True)
        powers = exp(scores - greatest)
        total = torch.zeros(q.shape[:3], dtype=torch.float32)
        y = torch.zeros(*q.shape[:3], v.shape[3], dtype=torch.float32)
        for key in range(keys):
            power, part = powers[..., key], there[:, key]
            total = torch.where(part, total + power, total)
            y = torch.where(part[:, None], fma(power[..., None], v[..., key, None, :], y), y)
        return y * (1 / torch.maximum(total, f32(1.0)))[..., None]

    return attention


KERNELS = {Attention: build}
