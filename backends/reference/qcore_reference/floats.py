"""What stays float between quantized layers: functions of one variable, sums, layer norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.errors import ArgumentError
from qcore.operators import FLOAT_FUNCTIONS, FloatAdd, FloatFunction, FloatLayerNorm
from qcore_reference.arithmetic import f32, fma, like, sqrt
from qcore_reference.gates import sigmoid, tanh

OPS = (
    OpSpec(FloatFunction, activations=(), functions=FLOAT_FUNCTIONS),
    OpSpec(FloatAdd, activations=()),
    OpSpec(FloatLayerNorm, activations=()),
)

REACH = 5.3125  # from here on erf(x / sqrt(2)) is 1 in float32
# erf(x / sqrt(2)) / (2 * x) by powers of 2 * (x / REACH)**2 - 1, the highest first: a minimax fit (Lawson's algorithm)
# of the error times x**2, rounded to float32
SERIES = (
    0.00023917188809718937, -0.0007452345453202724, 0.0009131931001320481, -0.0012460981961339712,
    0.0030146341305226088, -0.005806355737149715, 0.009029680863022804, -0.013360345736145973,
    0.018993405625224113, -0.02534095011651516, 0.03209158033132553, -0.03954532369971275,
    0.04916849732398987, -0.0663677379488945, 0.13307952880859375,
)  # fmt: skip
BLOCK, LANES = 64, 16


def gelu(x: Tensor) -> Tensor:
    """x / 2 + x * e, with e = erf(x / sqrt(2)) / 2."""
    c = x.clamp(-REACH, REACH).nan_to_num(nan=REACH)
    v = fma(c * c, f32(0.07086505), f32(-1.0))
    series = torch.full_like(v, SERIES[0])
    for coefficient in SERIES[1:]:
        series = fma(series, v, f32(coefficient))
    return fma(x, (c * series).clamp(-0.5, 0.5), x * 0.5)


def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 + x / 2 * tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))."""
    half = x * 0.5
    return fma(half, tanh(x * fma(x * x, f32(0.035677407), f32(0.7978846))), half)


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: torch.where(x < 0, 0.0, x),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": tanh,
}


def build_float_function(operator: FloatFunction) -> Kernel:
    function = _FUNCTIONS[operator.function]
    return lambda x: like(function(x), x)


def build_float_add(operator: FloatAdd) -> Kernel:
    def float_add(a: Tensor, b: Tensor) -> Tensor:
        try:
            a, b = torch.broadcast_tensors(a, b)
        except RuntimeError as error:
            raise ArgumentError(f"float_add: shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit") from error
        return like(a + b, a)

    return float_add


def row_sums(rows: Tensor, squared: bool = False) -> Tensor:
    """Of (rows, n), or of its squares: 64 sums by index modulo 64, joined to 16, which are halved four times."""
    missing = -rows.shape[1] % BLOCK
    blocks = torch.nn.functional.pad(rows, (0, missing)).reshape(len(rows), -1, BLOCK)
    total = torch.zeros(len(rows), BLOCK, dtype=torch.float32)
    for block in blocks.unbind(1):
        total = fma(block, block, total) if squared else total + block
    a, b, c, d = total.split(LANES, dim=1)
    total = (a + b) + (c + d)
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        total = total[:, :half] + total[:, half:]
    return total


def build_float_layer_norm(operator: FloatLayerNorm) -> Kernel:
    """fma((x - mean) * (1 / sqrt(var + eps)), weight, bias), over the last dimensions."""
    shape = operator.normalized_shape

    def float_layer_norm(x: Tensor) -> Tensor:
        if not shape or tuple(x.shape[x.ndim - len(shape) :]) != shape:
            raise ArgumentError(f"float_layer_norm: x {tuple(x.shape)} does not end in {shape}")
        if not x.numel():
            return like(x.clone(), x)
        rows = x.reshape(-1, x[(0,) * (x.ndim - len(shape))].numel())
        weight = torch.ones(shape, dtype=torch.float32) if operator.weight is None else operator.weight.detach()
        bias = torch.zeros(shape, dtype=torch.float32) if operator.bias is None else operator.bias.detach()
        count = f32(rows.shape[1])
        d = rows - row_sums(rows) / count
        rate = 1 / sqrt(row_sums(d, squared=True) / count + f32(operator.eps))
        return like(fma((d * rate).reshape(x.shape), weight, bias), x)

    return float_layer_norm


KERNELS = {
    FloatFunction: build_float_function,
    FloatAdd: build_float_add,
    FloatLayerNorm: build_float_layer_norm,
}
