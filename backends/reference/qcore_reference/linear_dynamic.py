"""Linear on floats, quantized on the way in by their own range."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import LinearDynamic
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import choose_qparams_dynamic
from qcore_reference.arithmetic import f32, fma, saturate
from qcore_reference.linear import LIMITS
from qcore_reference.weighted import WEIGHTS, Constants

OPS = (
    OpSpec(
        LinearDynamic,
        activations=(quint8,),
        weights=WEIGHTS,
        fused=("relu",),
        options=("per_row", "reduce_range"),
        limits=LIMITS,
    ),
)


def build_linear_dynamic(operator: LinearDynamic) -> Kernel:
    """y = fma(f32(acc), sxw, bias), with acc as in linear and x quantized as in quantize, by its own range."""
    constants = Constants.of(operator)
    bias = torch.zeros((), dtype=torch.float32) if constants.bias is None else constants.bias

    def linear_dynamic(x: Tensor) -> Tensor:
        if not x.numel():
            return x.new_zeros((*x.shape[:-1], constants.weight.shape[0]))
        low, high = x.aminmax(dim=-1, keepdim=True) if operator.per_row else x.aminmax()
        scale, zero_point = choose_qparams_dynamic(low, high, reduce_range=operator.reduce_range)
        sx = f32(scale)
        integers = saturate(fma(x, 1 / sx, zero_point.float()), quint8)
        acc = (integers.double() - zero_point) @ constants.weight.T
        y = fma(acc.float(), sx * constants.scale, bias)
        return y.clamp(min=0) if operator.relu else y

    return linear_dynamic


KERNELS = {LinearDynamic: build_linear_dynamic}
