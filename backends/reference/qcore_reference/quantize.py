"""Between float32 and integers."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Dequantize, Quantize
from qcore.tensor.dtypes import qint8, qint32, quint4x2, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import along, centered, f32, fma, saturate

_DTYPES = (quint8, qint8, qint32, quint4x2)
OPS = (
    OpSpec(Quantize, activations=_DTYPES, options=("float_zero_points",)),
    OpSpec(Dequantize, activations=_DTYPES, options=("float_zero_points",)),
)


def quantize(x: Tensor, out: QParams) -> Tensor:
    """8 bits per tensor: clamp(rint(fma(x, 1 / s, z))). qint32, and per channel: clamp(rint(x * (1 / s) + z))."""
    inverse, zero_point = 1 / f32(out.scale), f32(out.zero_point)
    if out.axis is None and out.dtype != qint32:
        return saturate(fma(x, inverse, zero_point), out.dtype)
    if out.axis is not None:
        inverse, zero_point = along(inverse, out.axis, x.ndim), along(zero_point, out.axis, x.ndim)
    return saturate(x * inverse + zero_point, out.dtype)


def dequantize(x: Tensor, qx: QParams) -> Tensor:
    """Per tensor: f32(x - z) * f32(s). Per channel: f32((x - z) * s), s in float64."""
    if qx.axis is None:
        return centered(x, qx).float() * f32(qx.scale)
    return (centered(x, qx) * along(torch.as_tensor(qx.scale), qx.axis, x.ndim)).float()


def build_quantize(operator: Quantize) -> Kernel:
    return quantize


def build_dequantize(operator: Dequantize) -> Kernel:
    return dequantize


KERNELS = {Quantize: build_quantize, Dequantize: build_dequantize}
