"""On the emulated CPU: `emulated.py MARKERS SYSTEM SHAPE...` runs each shape between the markers of count.c, then again
without a row or image in it, whose count is what the call itself takes.

SYSTEM: an instruction set of qnnpack_arm, or "torch" for its qnnpack engine. Ours is the call of the compiled module
with its checks of arguments, its result at hand as XNNPACK's; torch's goes through its dispatcher and makes its own.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from qcore import operators as ops
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import per_tensor

X_SCALE, Y_SCALE, W_SCALE = 0.05, 1.0, 0.01


def calls_of(system: str, shape: tuple[int, ...]) -> list[Callable[[], Any]]:
    """The convolution, or linear layer where one pixel is a row, of one system; and the same of an empty input."""
    channels, height, width, outputs, kernel, stride, groups = shape
    taps = outputs * (channels // groups) * kernel * kernel
    weight = (torch.arange(taps) * 37 % 251 - 125).to(torch.int8).reshape(outputs, channels // groups, kernel, kernel)
    x = (torch.arange(channels * height * width) * 29 % 256).to(torch.uint8).reshape(1, height, width, channels)
    bias, linear = torch.full((outputs,), 7.0), kernel == stride == width == 1
    geometry = [stride] * 2, [kernel // 2] * 2, [1] * 2
    if linear:
        weight, x = weight.reshape(outputs, channels), x.reshape(height, channels)
    else:
        x = x.permute(0, 3, 1, 2)
    inputs = x, x[:0]
    if system == "torch":
        torch.backends.quantized.engine = "qnnpack"
        weight = torch._make_per_tensor_quantized_tensor(weight, W_SCALE, 0)
        if linear:
            run, packed = torch.ops.quantized.linear, torch.ops.quantized.linear_prepack(weight, bias)
        else:
            run, packed = (
                torch.ops.quantized.conv2d,
                torch.ops.quantized.conv2d_prepack(weight, bias, *geometry, groups),
            )
        theirs = [torch._make_per_tensor_quantized_tensor(x, X_SCALE, 131) for x in inputs]
        return [partial(run, x, packed, Y_SCALE, 128) for x in theirs]
    from qcore_qnnpack_arm.backend import QnnpackArm

    w, qx, qy = per_tensor(W_SCALE, 0, qint8), per_tensor(X_SCALE, 131, quint8), per_tensor(Y_SCALE, 128, quint8)
    operator: ops.Operator = ops.Linear(weight, w, bias)
    if not linear:
        operator = ops.Conv(weight, w, bias, False, *map(tuple, geometry), groups)
    kernel: Any = QnnpackArm().build(operator, isa=system)
    y = kernel(x, qx, qy)
    scales = qx.scale, qx.zero_point, qy.scale, qy.zero_point
    return [partial(kernel.packed.run, x, *scales, y[: len(x)], 1) for x in inputs]


def main() -> None:
    """Each call: once to warm caches of parameters and code up, once between the markers."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    markers = ctypes.CDLL(sys.argv[1])
    for shape in sys.argv[3:]:
        for call in calls_of(sys.argv[2], tuple(map(int, shape.split(",")))):
            call()
            markers.begin()
            call()
            markers.end()


main()
