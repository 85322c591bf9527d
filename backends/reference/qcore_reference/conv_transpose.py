"""Transposed convolution in 1, 2 and 3 dimensions."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import Limit, OpSpec
from qcore.errors import ArgumentError
from qcore.operators import ConvTranspose
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered, channels_last
from qcore_reference.weighted import ACCUMULATED, WEIGHTS, Constants, finish

OPS = (
    OpSpec(
        ConvTranspose,
        activations=(quint8, qint8),
        weights=WEIGHTS,
        fused=("relu",),
        spatial=(1, 2, 3),
        limits=(Limit("accumulated", ACCUMULATED, "exact int32 accumulation of uint8 x int8"),),
    ),
)
CONVOLVE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def build_conv_transpose(operator: ConvTranspose) -> Kernel:
    """acc = the transposed convolution of x - zx and w - zw; then the common finish."""
    constants = Constants.of(operator)
    if operator.qweight.axis is not None:
        constants = replace(constants, scale=constants.scale.repeat(operator.groups))
    convolve = CONVOLVE[operator.spatial]

    def conv_transpose(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        if not all(x.shape[2:]):
            raise ArgumentError(
                f"conv_transpose: x {tuple(x.shape)} has no elements in a dimension that the kernel moves over"
            )
        acc = convolve(
            centered(x, qx),
            constants.weight,
            stride=operator.stride,
            padding=operator.padding,
            output_padding=operator.output_padding,
            groups=operator.groups,
            dilation=operator.dilation,
        )
        y = finish(acc.movedim(1, -1), constants, qx, out, operator.relu)
        return channels_last(y.movedim(-1, 1))

    return conv_transpose


KERNELS = {ConvTranspose: build_conv_transpose}
