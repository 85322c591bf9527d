"""Convolution in 1, 2 and 3 dimensions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import Limit, OpSpec
from qcore.errors import ArgumentError
from qcore.operators import Conv
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered, channels_last
from qcore_reference.weighted import ACCUMULATED, WEIGHTS, Constants, finish

OPS = (
    OpSpec(
        Conv,
        activations=(quint8, qint8),
        weights=WEIGHTS,
        fused=("relu",),
        spatial=(1, 2, 3),
        limits=(Limit("accumulated", ACCUMULATED, "exact int32 accumulation of uint8 x int8"),),
    ),
)
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def build_conv(operator: Conv) -> Kernel:
    """acc = the convolution of x - zx, padded with zeros, and w - zw; then the common finish."""
    constants = Constants.of(operator)
    convolve = CONVOLVE[operator.spatial]

    def conv(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if not all(x.shape[2:]):
            raise ArgumentError(f"conv: x {tuple(x.shape)} has no elements in a dimension that the kernel moves over")
        acc = convolve(
            centered(x, qx),
            constants.weight,
            stride=operator.stride,
            padding=operator.padding,
            dilation=operator.dilation,
            groups=operator.groups,
        )
        y = finish(acc.movedim(1, -1), constants, qx, out, operator.relu)
        return channels_last(y.movedim(-1, 1))

    return conv


KERNELS = {Conv: build_conv}
