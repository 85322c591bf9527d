"""Activations that are no table: PReLU with a weight per channel, and softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore import tables
from qcore.backend import Kernel
from qcore.capability import OpSpec, WeightSpec
from qcore.errors import ArgumentError
from qcore.operators import PReLU, Softmax
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import along, centered, f32, like, requantize, saturate

OPS = (
    OpSpec(PReLU, activations=(quint8, qint8), weights=(WeightSpec(quint8), WeightSpec(qint8))),
    OpSpec(Softmax, activations=(quint8, qint8)),
)


def build_prelu(operator: PReLU) -> Kernel:
    """clamp(rint(v) + zy), with d = x - zx: v = f32(d) * (sx * (1 / sy)) for d > 0,
    else f32(d * (w - zw)) * ((sx * sw) * (1 / sy)).
    """
    weight = centered(operator.weight, operator.qweight)

    def prelu(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if len(weight) != 1 and (x.ndim < 2 or len(weight) != x.shape[1]):
            raise ArgumentError(f"prelu: x {tuple(x.shape)} must have {len(weight)} channels on axis 1, one per weight")
        slope = weight[0] if len(weight) == 1 else along(weight, 1, x.ndim)
        distance, sx, inverse = centered(x, qx), f32(qx.scale), 1 / f32(out.scale)
        above = distance.float() * (sx * inverse)
        below = (distance * slope).float() * ((sx * f32(operator.qweight.scale)) * inverse)
        return like(saturate(torch.where(distance > 0, above, below), out.dtype, out.zero_point), x)

    return prelu


def build_softmax(operator: Softmax) -> Kernel:
    """clamp(rint(f32(t / sum of t) * (1 / sy)) + zy), t = the table of exponentials at max - x, summed exactly."""

    def softmax(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if not x.numel():
            return x.to(out.dtype.storage)
        integers = x.long()
        terms = tables.exponentials(qx)[integers.amax(operator.dim, keepdim=True) - integers]
        shares = terms.double() / terms.sum(operator.dim, keepdim=True).double()
        return like(requantize(shares.float(), 1 / f32(out.scale), out), x)

    return softmax


KERNELS = {PReLU: build_prelu, Softmax: build_softmax}
