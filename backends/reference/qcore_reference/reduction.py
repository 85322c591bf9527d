"""Mean over dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Mean
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered
from qcore_reference.pooling import average

OPS = (OpSpec(Mean, activations=(quint8, qint8)),)


def build_mean(operator: Mean) -> Kernel:
    """The average over all elements of `dims`, by the rule of adaptive pooling."""

    def mean(x: Tensor, qx: QParams) -> Tensor:
        dims = operator.dims or tuple(range(x.ndim))
        total = centered(x, qx).sum(dims, keepdim=operator.keepdim)
        return average(total, torch.tensor(math.prod(x.shape[dim] for dim in dims)), qx)

    return mean


KERNELS = {Mean: build_mean}
