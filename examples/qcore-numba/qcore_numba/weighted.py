"""Linear and convolution: exact sums in int32, then the written float32 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import qcore
from qcore import operators as ops
from qcore_numba.steps import compiled, fma, in_pieces, to_uint8

PER_CHANNEL, PER_TENSOR, NO_BIAS = 0, 1, 2


@compiled
def finish(acc, scale, bias, kind, out_scale, zero, low):
    """clamp(rint(sum * (sxw / sy)) + zy); the bias is divided with weights per channel, and fused in per tensor."""
    total = np.float32(acc)
    if kind == PER_CHANNEL:
        total = total + bias / scale
    elif kind == PER_TENSOR:
        total = fma(bias, np.float32(1) / scale, total)
    return to_uint8(total * (scale / out_scale), zero, low)


@compiled
def linear(x, sx, zx, weight, scales, bias, kind, y, sy, zy, low, begin, end):
    """Rows begin to end of y; `weight` has its zero points taken away."""
    for row in range(begin, end):
        for channel in range(weight.shape[0]):
            acc = np.int32(0)
            for k in range(weight.shape[1]):
                acc += np.int32((np.int32(x[row, k]) - zx) * weight[channel, k])
            y[row, channel] = finish(acc, sx * scales[channel], bias[channel], kind, sy, zy, low)


def packed(operator: Any) -> tuple[Any, Any, Any, int]:
    """What calls need of the constants: weight - zero points (int16), scales and biases by channel, kind of bias."""
    channels = operator.weight.shape[0]
    scales = torch.as_tensor(operator.qweight.scale).float().expand(channels).contiguous()
    zeros = torch.as_tensor(operator.qweight.zero_point).reshape(-1, *[1] * (operator.weight.ndim - 1))
    weight = (operator.weight.short() - zeros.short()).contiguous()
    if operator.bias is None:
        return weight.numpy(), scales.numpy(), np.zeros(channels, np.float32), NO_BIAS
    kind = PER_TENSOR if operator.qweight.axis is None else PER_CHANNEL
    return weight.numpy(), scales.numpy(), operator.bias.detach().float().contiguous().numpy(), kind


def run(x: Any, qx: Any, weight: Any, scales: Any, bias: Any, kind: int, y: Any, out: Any, relu: bool) -> None:
    """y (rows, channels) = x (rows, features) @ weight.T, on several threads."""
    left = x, np.float32(qx.scale), int(qx.zero_point), weight, scales, bias, kind
    right = y, np.float32(out.scale), int(out.zero_point), int(out.zero_point) if relu else 0
    in_pieces(len(y), 1 + (1 << 16) // weight.size, lambda begin, end: linear(*left, *right, begin, end))


def build_linear(operator: ops.Linear) -> qcore.Kernel:
    """kernel(x, qx, out) -> y"""
    weight, *rest = packed(operator)
    rows, columns = weight.shape

    def kernel(x: Tensor, qx: qcore.QParams, out: qcore.QParams) -> Tensor:
        y = torch.empty((*x.shape[:-1], rows), dtype=torch.uint8)
        flat = x.reshape(-1, columns).contiguous().numpy()
        run(flat, qx, weight, *rest, y.view(-1, rows).numpy(), out, operator.relu)
        return y

    return kernel


def build_conv(operator: ops.Conv) -> qcore.Kernel:
    """kernel(x, qx, out) -> y: linear on the windows of x, gathered with channels innermost, group by group."""
    weight, scales, bias, kind = packed(operator)
    outputs, inputs, *sizes = weight.shape
    weight = np.moveaxis(weight, 1, -1).reshape(outputs, -1)
    stride, dilation = ((given or (1,) * len(sizes)) for given in (operator.stride, operator.dilation))
    around = [size for size in reversed(operator.padding) for _ in range(2)]
    each = outputs // operator.groups

    def kernel(x: Tensor, qx: qcore.QParams, out: qcore.QParams) -> Tensor:
        x = pad(x, around, value=int(qx.zero_point)).movedim(1, -1).contiguous()
        spans = zip(x.shape[1:], sizes, stride, dilation, strict=False)
        shape = [(length - gap * (size - 1) - 1) // step + 1 for length, size, step, gap in spans]
        first, *space, last = x.stride()
        steps = [move * by for moves in (stride, dilation) for move, by in zip(moves, space, strict=True)]
        windows = x.as_strided((len(x), *shape, *sizes, x.shape[-1]), (first, *steps, last))
        y = torch.empty((len(x), *shape, outputs), dtype=torch.uint8)
        for group in range(operator.groups):
            rows = windows[..., group * inputs : (group + 1) * inputs].reshape(-1, weight.shape[1]).numpy()
            mine = slice(group * each, (group + 1) * each)
            into = y.view(-1, outputs)[:, mine].numpy()
            run(rows, qx, weight[mine], scales[mine], bias[mine], kind, into, out, operator.relu)
        return y.movedim(-1, 1)

    return kernel
