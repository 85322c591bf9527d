"""Each operator as a float module that computes with the numbers that its integers stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.onnx.custom_ops import dequantize
from qcore.onnx.dynamic import Embedding, EmbeddingBag, LinearDynamic, LinearFp16
from qcore.onnx.recurrent import Cell, Layers
from qcore.onnx.weights import Ends, IntegerWeight, scale_and_zero_point
from qcore.operators import Operator


class WithWeight(nn.Module):
    """An operator with an integer weight, kept as integers; the bias too where the parameters of x are known."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor | None
    bias_scale: Tensor | None
    bias_zero_point: Tensor

    def __init__(self, operator: Any, ends: Ends, unsigned: bool, axis: int, outputs: int) -> None:
        super().__init__()
        self.operator = operator
        self.axis = axis
        made = IntegerWeight.of(operator, ends, unsigned, axis, outputs)
        self.register_buffer("weight", made.weight)
        self.register_buffer("weight_scale", made.scale)
        self.register_buffer("weight_zero_point", made.zero_point)
        self.register_buffer("bias", made.bias)
        self.register_buffer("bias_scale", made.bias_scale)
        self.register_buffer("bias_zero_point", torch.zeros(outputs, dtype=torch.int32))

    def values(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as floats."""
        to_float = torch.ops.qcore_onnx.dequantize
        weight: Tensor = to_float(self.weight, self.weight_scale, self.weight_zero_point, self.axis)
        if self.bias is None or self.bias_scale is None:
            return weight, self.bias
        return weight, to_float(self.bias, self.bias_scale, self.bias_zero_point, 0)

    def activated(self, y: Tensor) -> Tensor:
        """With the ReLU, where one is fused."""
        return F.relu(y) if self.operator.relu else y


class Linear(WithWeight):
    """Linear."""

    def __init__(self, operator: ops.Linear, ends: Ends, unsigned: bool) -> None:
        super().__init__(operator, ends, unsigned, 0, operator.weight.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.activated(F.linear(x, *self.values()))


class Conv(WithWeight):
    """Convolution."""

    def __init__(self, operator: ops.Conv, ends: Ends, unsigned: bool) -> None:
        super().__init__(operator, ends, unsigned, 0, operator.weight.shape[0])
        self.function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[operator.spatial - 1]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, ...) -> (batch, out, ...)."""
        op = self.operator
        geometry = (op.stride or 1, op.padding or 0, op.dilation or 1, op.groups)
        return self.activated(self.function(x, *self.values(), *geometry))


class ConvTranspose(WithWeight):
    """Transposed convolution."""

    def __init__(self, operator: ops.ConvTranspose, ends: Ends, unsigned: bool) -> None:
        super().__init__(operator, ends, unsigned, 1, operator.weight.shape[1] * operator.groups)
        functions = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
        self.function: Callable[..., Tensor] = functions[operator.spatial - 1]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, ...) -> (batch, out, ...)."""
        op = self.operator
        geometry = (op.stride or 1, op.padding or 0, op.output_padding or 0, op.groups, op.dilation or 1)
        return self.activated(self.function(x, *self.values(), *geometry))


class PReLU(nn.Module):
    """x above zero, x * weight below."""

    weight: Tensor

    def __init__(self, operator: ops.PReLU, ends: Ends, unsigned: bool) -> None:
        super().__init__()
        scale, zero_point = scale_and_zero_point(operator.qweight)
        self.register_buffer("weight", dequantize(operator.weight, scale, zero_point, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        return F.prelu(x, self.weight)


class Function(nn.Module):
    """An operator that torch has as a function of its float inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Tensor:
        """As the operator."""
        return self.function(*inputs)


_LOOKUPS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": F.leaky_relu,
    "threshold": F.threshold,
}
_MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGES = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


def _relued(function: Callable[..., Tensor], relu: bool) -> Callable[..., Tensor]:
    return (lambda *inputs: F.relu(function(*inputs))) if relu else function


def _avg_pool(op: ops.AvgPool) -> Callable[..., Tensor]:
    options: Any = (op.kernel_size, op.stride or None, op.padding or 0, op.ceil_mode, op.count_include_pad)
    if op.spatial == 1:
        return lambda x: F.avg_pool1d(x, *options)
    function: Callable[..., Tensor] = F.avg_pool2d if op.spatial == 2 else F.avg_pool3d
    return lambda x: function(x, *options, op.divisor_override)


def _max_pool(op: ops.MaxPool) -> Callable[..., Tensor]:
    options = (op.kernel_size, op.stride or None, op.padding or 0, op.dilation or 1, op.ceil_mode)
    return lambda x: _MAX_POOLS[op.spatial - 1](x, *options)


def _interpolate(op: ops.Interpolate) -> Callable[..., Tensor]:
    align = op.align_corners if op.mode == "bilinear" else None
    return lambda x: F.interpolate(x, op.size, op.scale_factor, op.mode, align)


def _attention(op: ops.Attention) -> Callable[..., Tensor]:
    return lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask, is_causal=op.causal, scale=op.scale)


_FUNCTIONS: dict[type[Operator], Callable[[Any], Callable[..., Tensor]]] = {
    ops.Quantize: lambda op: lambda x: x,
    ops.Dequantize: lambda op: lambda x: x,
    ops.FloatFunction: lambda op: torch.relu if op.function == "relu" else _LOOKUPS[op.function],
    ops.FloatAdd: lambda op: torch.add,
    ops.FloatLayerNorm: lambda op: lambda x: F.layer_norm(x, op.normalized_shape, op.weight, op.bias, op.eps),
    ops.FloatEmbedding: lambda op: lambda x: F.embedding(x, op.weight),
    ops.Attention: _attention,
    ops.Add: lambda op: _relued(torch.add, op.relu),
    ops.Mul: lambda op: _relued(torch.mul, op.relu),
    ops.MatMul: lambda op: torch.matmul,
    ops.Cat: lambda op: _relued(lambda xs: torch.cat(xs, op.dim), op.relu),
    ops.Clamp: lambda op: lambda x: torch.clamp(x, op.low, op.high),
    ops.Lookup: lambda op: lambda x: _LOOKUPS[op.function](x, *op.args),
    ops.Softmax: lambda op: lambda x: F.softmax(x, op.dim),
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.AdaptiveAvgPool: lambda op: lambda x: _AVERAGES[op.spatial - 1](x, op.output_size),
    ops.Mean: lambda op: lambda x: x.mean(op.dims or tuple(range(x.ndim)), op.keepdim),
    ops.Interpolate: _interpolate,
    ops.BatchNorm: lambda op: _relued(
        lambda x: F.batch_norm(x, op.running_mean, op.running_var, op.weight, op.bias, eps=op.eps), op.relu
    ),
    ops.LayerNorm: lambda op: lambda x: F.layer_norm(x, op.normalized_shape, op.weight, op.bias, op.eps),
    ops.GroupNorm: lambda op: lambda x: F.group_norm(x, op.num_groups, op.weight, op.bias, op.eps),
    ops.InstanceNorm: lambda op: lambda x: F.instance_norm(x, weight=op.weight, bias=op.bias, eps=op.eps),
}
_MODULES: dict[type[Operator], Callable[[Any, Ends, bool], nn.Module]] = {
    ops.Linear: Linear,
    ops.Conv: Conv,
    ops.ConvTranspose: ConvTranspose,
    ops.LinearDynamic: LinearDynamic,
    ops.LinearFp16: LinearFp16,
    ops.Embedding: Embedding,
    ops.EmbeddingBag: EmbeddingBag,
    ops.LSTM: Layers,
    ops.GRU: Layers,
    ops.LSTMCell: Cell,
    ops.GRUCell: Cell,
    ops.RNNCell: Cell,
    ops.PReLU: PReLU,
}


def reason_against(operator: Operator, call: Mapping[str, Any]) -> str:
    """Why a call of an operator cannot be exported; empty if it can. `call`: its arguments by the signature's names."""
    if type(operator) not in _FUNCTIONS and type(operator) not in _MODULES:
        return f"{operator.name} has no translation to ONNX"
    if call.get("batch_sizes?") is not None:
        return f"{operator.name} of a packed sequence has no translation to ONNX; give it a padded one"
    result = call.get("out", call.get("qx"))
    if result is not None and result.dtype.storage == torch.int32 and not isinstance(operator, ops.Dequantize):
        return f"{operator.name} with a result of 32 bits has no translation to ONNX"
    return ""


def float_module(operator: Operator, ends: Ends, unsigned: bool) -> nn.Module:
    """The module for an operator that `reason_against` has nothing against.

    `unsigned`: whether int8 weights are kept as uint8, 128 greater.
    """
    make = _MODULES.get(type(operator))
    return Function(_FUNCTIONS[type(operator)](operator)) if make is None else make(operator, ends, unsigned)
