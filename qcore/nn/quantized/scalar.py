"""Adding or multiplying a number: mostly only the parameters change, and the integers stay."""

from __future__ import annotations

import torch

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.errors import ArgumentError
from qcore.tensor.arguments import check_number
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor

_MOST_STEPS = 2.0**53


def add_scalar(x: QTensor, number: float, relu: bool = False) -> QTensor:
    """x + number, with the number rounded to a multiple of x's scale.

    The zero point moves; where it would leave the range of the dtype, the scale grows just so that it does not.
    Raises ArgumentError for tensors quantized per channel, and for numbers of more than 2**53 steps of the scale.
    """
    check_number(number=number)
    scale, zero_point = _pair(x)
    dtype = x.qparams.dtype
    steps = float(number) / scale
    if abs(steps) > _MOST_STEPS:
        raise ArgumentError(f"number={number!r} is more than 2**53 steps of the scale {scale}: integers cannot hold it")
    moved = zero_point - round(steps)
    if dtype.qmin <= moved <= dtype.qmax:
        result = QTensor(x.raw.clone(), per_tensor(scale, moved, dtype), x.backend)
        return _relu(result) if relu else result
    reach = dtype.qmax - moved if moved < dtype.qmin else moved - dtype.qmin
    bound = dtype.qmin if moved < dtype.qmin else dtype.qmax
    out = per_tensor(reach / (dtype.qmax - dtype.qmin) * scale, bound, dtype)
    # requantization of q - moved, each step rounded to float32
    multiplier = torch.tensor(scale, dtype=torch.float32) * (1 / torch.tensor(out.scale, dtype=torch.float32))
    integers = ((x.raw.to(torch.int64) - moved).float() * multiplier).round() + bound
    raw = integers.clamp(dtype.qmin, dtype.qmax).to(dtype.storage)
    result = QTensor(raw, out, x.backend)
    return _relu(result) if relu else result


def mul_scalar(x: QTensor, number: float, relu: bool = False) -> QTensor:
    """x * number: the scale is multiplied; a negative number mirrors the integers; zero gives scale 1, zero point 0.

    Raises ArgumentError for tensors quantized per channel.
    """
    check_number(number=number)
    scale, zero_point = _pair(x)
    dtype = x.qparams.dtype
    if number == 0:
        zero = QParams(dtype, 1.0, 0)
        return QTensor(torch.zeros_like(x.raw), zero, x.backend)
    if number > 0:
        result = QTensor(x.raw.clone(), per_tensor(scale * number, zero_point, dtype), x.backend)
    else:
        ends = dtype.qmin + dtype.qmax
        raw = (ends - x.raw.to(torch.int64)).to(x.raw.dtype)
        result = QTensor(raw, per_tensor(scale * -number, ends - zero_point, dtype), x.backend)
    return _relu(result) if relu else result


def _pair(x: QTensor) -> tuple[float, int]:
    scale, zero_point = x.qparams.scale, x.qparams.zero_point
    if not isinstance(scale, float) or not isinstance(zero_point, int):
        raise ArgumentError(
            "a number is added to, or multiplied with, a tensor quantized per tensor; this is per channel"
        )
    return scale, zero_point


def _relu(x: QTensor) -> QTensor:
    kernel = shared_kernel(x.backend, ops.Clamp(low=0.0), (x.qparams.dtype,))
    return QTensor(kernel(x.raw, x.qparams), x.qparams, x.backend)
