"""Making quantized tensors and reading them, under the names that torch has for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.compat.functions.overridable import overridable
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor import functions
from qcore.tensor.dtypes import as_qdtype, qint8, qint32, quint8
from qcore.tensor.qparams import QParams, choose_qparams_dynamic, choose_qparams_native, per_channel, per_tensor
from qcore.tensor.qtensor import QTensor

_torch = overridable("torch")


@_torch
def quantize_per_tensor(input: Any, scale: Any, zero_point: Any, dtype: Any) -> Any:
    """Float tensor, or a list with tensors of scales and zero points -> QTensor; as qcore.quantize_per_tensor."""
    return functions.quantize_per_tensor(input, scale, zero_point, dtype)


@_torch
def quantize_per_channel(input: Tensor, scales: Tensor, zero_points: Tensor, axis: int, dtype: Any) -> Tensor:
    """Float tensor -> QTensor, a scale and zero point for each slice; as qcore.quantize_per_channel."""
    return functions.quantize_per_channel(input, scales, zero_points, axis, dtype)


@_torch
def quantize_per_tensor_dynamic(input: Tensor, dtype: Any, reduce_range: bool) -> Tensor:
    """Quantize by the tensor's own range, as dynamic layers do; quint8 or qint8, with reduce_range to 7 bits."""
    qdtype = as_qdtype(dtype)
    if qdtype not in (quint8, qint8):
        raise ArgumentError(f"quantize_per_tensor_dynamic: dtype={dtype!r} must be {quint8!r} or {qint8!r}")
    low, high = (input.min(), input.max()) if input.numel() else (torch.zeros(()), torch.zeros(()))
    if qdtype == quint8:
        scale, zero_point = choose_qparams_dynamic(low, high, reduce_range)
    else:
        bound = 64 if reduce_range else 128
        scale, zero_point = choose_qparams_native(low, high, -bound, bound - 1)
    return functions.quantize_per_tensor(input, float(scale), int(zero_point), qdtype)


@_torch
def dequantize(input: Any = None, *, tensors: Any = None) -> Any:
    """Real numbers of a quantized tensor, or of each of a list; float tensors pass."""
    return functions.dequantize(input if tensors is None else tensors)


# --- without numbers, and from integers -----------------------------------------------------------------------------


@_torch
def _empty_affine_quantized(
    *size: Any,
    scale: float = 1.0,
    zero_point: int = 0,
    dtype: Any = quint8,
    memory_format: Any = torch.contiguous_format,
    **options: Any,
) -> Tensor:
    """A quantized tensor of a size, with whatever integers; one scale and zero point."""
    qdtype = as_qdtype(dtype)
    return QTensor(_empty(size, qdtype.storage, memory_format, options), per_tensor(scale, zero_point, qdtype))


@_torch
def _empty_per_channel_affine_quantized(
    *size: Any,
    scales: Tensor,
    zero_points: Tensor,
    axis: int,
    dtype: Any = quint8,
    memory_format: Any = torch.contiguous_format,
    **options: Any,
) -> Tensor:
    """A quantized tensor of a size, with whatever integers; scales and zero points along an axis."""
    qdtype = as_qdtype(dtype)
    raw = _empty(size, qdtype.storage, memory_format, options)
    return QTensor(raw, _along(raw, scales, zero_points, axis, qdtype))


@_torch
def empty_quantized(size: Sequence[int], qtensor: Tensor, memory_format: Any = None, **options: Any) -> Tensor:
    """A quantized tensor of a size, with whatever integers and another one's parameters."""
    like = _quantized(qtensor, "empty_quantized")
    layout = torch.contiguous_format if memory_format is None else memory_format
    return QTensor(_empty((size,), like.raw.dtype, layout, {}), like.qparams, like.backend)


@_torch
def _make_per_tensor_quantized_tensor(input: Tensor, scale: float, zero_point: int) -> Tensor:
    """The quantized tensor with these integers (uint8, int8, int32), a copy."""
    return QTensor(input.clone(), per_tensor(scale, zero_point, _dtype_of(input)))


@_torch
def _make_per_channel_quantized_tensor(input: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """The quantized tensor with these integers (uint8, int8, int32), a copy; scales and zero points along an axis."""
    return QTensor(input.clone(), _along(input, scale, zero_point, axis, _dtype_of(input)))


def _empty(size: tuple[Any, ...], dtype: torch.dtype, memory_format: Any, options: dict[str, Any]) -> Tensor:
    sizes = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    given = {name: value for name, value in options.items() if name in ("device", "pin_memory")}
    return torch.empty(sizes, dtype=dtype, memory_format=memory_format, **given)


def _along(raw: Tensor, scales: Tensor, zero_points: Tensor, axis: int, dtype: Any) -> QParams:
    if not 0 <= axis < raw.ndim or scales.shape != (raw.shape[axis],):
        raise ArgumentError(f"{tuple(scales.shape)} scales do not fit axis {axis} of shape {tuple(raw.shape)}")
    return per_channel(scales, zero_points, axis, dtype)


def _dtype_of(integers: Tensor) -> Any:
    found = {quint8.storage: quint8, qint8.storage: qint8, qint32.storage: qint32}.get(integers.dtype)
    if found is None:
        raise ArgumentTypeError(f"integers must be uint8, int8 or int32, not {integers.dtype}")
    return found


# --- reading --------------------------------------------------------------------------------------------------------


@_torch
def q_scale(input: Tensor) -> float:
    """The scale of a tensor quantized per tensor."""
    return _quantized(input, "q_scale").q_scale()


@_torch
def q_zero_point(input: Tensor) -> int:
    """The zero point of a tensor quantized per tensor."""
    return _quantized(input, "q_zero_point").q_zero_point()


@_torch
def q_per_channel_scales(input: Tensor) -> Tensor:
    """The scales of a tensor quantized per channel."""
    return _quantized(input, "q_per_channel_scales").q_per_channel_scales()


@_torch
def q_per_channel_zero_points(input: Tensor) -> Tensor:
    """The zero points of a tensor quantized per channel."""
    return _quantized(input, "q_per_channel_zero_points").q_per_channel_zero_points()


@_torch
def q_per_channel_axis(input: Tensor) -> int:
    """The axis of the channels of a tensor quantized per channel."""
    return _quantized(input, "q_per_channel_axis").q_per_channel_axis()


def _quantized(input: Tensor, function: str) -> QTensor:
    if not isinstance(input, QTensor):
        raise ArgumentTypeError(f"{function} takes a quantized tensor, not one of {input.dtype}")
    return input


# --- layers ---------------------------------------------------------------------------------------------------------


@_torch
def quantized_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    output_scale: float,
    output_zero_point: int,
) -> Tensor:
    """Batch norm of a quantized tensor by fixed statistics; the output has the parameters given."""
    x = _quantized(input, "quantized_batch_norm")
    out = per_tensor(output_scale, output_zero_point, x.dtype)
    kernel = shared_kernel(x.backend, ops.BatchNorm(weight, bias, mean, var, eps), (x.dtype, x.dtype))
    return QTensor(kernel(x.raw, x.qparams, out), out, x.backend)


def _max_pool(rank: int) -> Any:
    def pool(
        input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Tensor:
        function = getattr(F, f"max_pool{rank}d")
        x = _quantized(input, f"quantized_max_pool{rank}d")
        return function(x, kernel_size, stride or None, padding, dilation, ceil_mode)  # type: ignore[no-any-return]

    pool.__name__ = f"quantized_max_pool{rank}d"
    pool.__doc__ = f"Max pooling of a quantized tensor over {rank} dimensions; the parameters stay."
    return _torch(pool)


quantized_max_pool1d, quantized_max_pool2d, quantized_max_pool3d = map(_max_pool, (1, 2, 3))


@_torch
def _choose_qparams_per_tensor(input: Tensor, reduce_range: bool = False) -> tuple[float, int]:
    """Scale and zero point that dynamic quantization to quint8 would choose."""
    scale, zero_point = choose_qparams_dynamic(input.min(), input.max(), reduce_range)
    return float(scale), int(zero_point)
