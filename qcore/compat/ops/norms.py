"""Normalization."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.binding import bind
from qcore.compat.ops.calls import operator, output, per_tensor_quantized
from qcore.errors import ArgumentError
from qcore.tensor.qtensor import QTensor


def _run(kind: ops.Operator, input: Any, scale: float, zero_point: int) -> QTensor:
    x = per_tensor_quantized(input, kind.name)
    out = output(x, scale, zero_point)
    kernel = bind(x.backend, kind, (x.qparams.dtype, out.dtype)).build()
    return QTensor(kernel(x.raw, x.qparams, out), out, x.backend)


def _batch_norm(name: str, ranks: tuple[int, ...], relu: bool) -> Any:
    def call(
        qx: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        output_scale: float,
        output_zero_point: int,
    ) -> Tensor:
        x = per_tensor_quantized(qx, name)
        if x.ndim not in ranks:
            raise ArgumentError(f"torch.ops.quantized.{name}: the input has {x.ndim} dimensions; {ranks} are allowed")
        return _run(ops.BatchNorm(weight, bias, mean, var, eps, relu), x, output_scale, output_zero_point)

    call.__name__ = name
    call.__doc__ = f"Batch norm by fixed statistics{', and relu of it' if relu else ''}; (batch, channels, ...)."
    return operator(call)


batch_norm = _batch_norm("batch_norm", (2, 3, 4, 5), False)
batch_norm_relu = _batch_norm("batch_norm_relu", (2, 3, 4, 5), True)
batch_norm1d = _batch_norm("batch_norm1d", (2, 3), False)
batch_norm1d_relu = _batch_norm("batch_norm1d_relu", (2, 3), True)
batch_norm2d = _batch_norm("batch_norm2d", (4,), False)
batch_norm2d_relu = _batch_norm("batch_norm2d_relu", (4,), True)
batch_norm3d = _batch_norm("batch_norm3d", (5,), False)
batch_norm3d_relu = _batch_norm("batch_norm3d_relu", (5,), True)


@operator
def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_scale: float,
    output_zero_point: int,
) -> Tensor:
    """Layer norm over the last dimensions."""
    return _run(ops.LayerNorm(tuple(normalized_shape), weight, bias, eps), input, output_scale, output_zero_point)


@operator
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_scale: float,
    output_zero_point: int,
) -> Tensor:
    """Norm over groups of channels of axis 1."""
    return _run(ops.GroupNorm(num_groups, weight, bias, eps), input, output_scale, output_zero_point)


@operator
def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_scale: float,
    output_zero_point: int,
) -> Tensor:
    """Norm of each sample's channels."""
    return _run(ops.InstanceNorm(weight, bias, eps), input, output_scale, output_zero_point)
