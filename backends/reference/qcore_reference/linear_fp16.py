"""Linear with float16 weights."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import LinearFp16
from qcore_reference.arithmetic import fma

OPS = (OpSpec(LinearFp16, activations=(), fused=("relu",)),)


def build_linear_fp16(operator: LinearFp16) -> Kernel:
    """y = 0, then y = fma(x[k], w[k], y) for each k in turn, then y + bias."""
    columns = operator.weight.float().T
    bias = operator.bias

    def linear_fp16(x: Tensor) -> Tensor:
        y = torch.zeros(*x.shape[:-1], columns.shape[1], dtype=torch.float32)
        for k, column in enumerate(columns):
            y = fma(x[..., k, None], column, y)
        if bias is not None:
            y = y + bias
        return y.clamp(min=0) if operator.relu else y

    return linear_fp16


KERNELS = {LinearFp16: build_linear_fp16}
