"""From float tensors to quantized ones and back: quantize_per_tensor, quantize_per_channel, dequantize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from qcore.binding import shared_kernel
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.operators import Quantize
from qcore.tensor import qparams as _qparams
from qcore.tensor.arguments import check_whole
from qcore.tensor.dtypes import DTypeLike, as_qdtype, per_channel_affine_float_qparams
from qcore.tensor.entering import check_readable, entered
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


def quantize(input: Tensor, qparams: QParams, backend: str | None = None) -> QTensor:
    """Quantize float32 numbers of any shape with given parameters, by a backend's kernel; else ArgumentTypeError."""
    if isinstance(input, QTensor) or getattr(input, "dtype", None) != torch.float32:
        given, cure = type(input).__name__, ""
        if isinstance(input, Tensor):
            given, cure = str(input.dtype), "; use .float() or dequantize() first"
            if not isinstance(input, QTensor):
                check_readable(input, "input")
        elif isinstance(input, PackedSequence):
            cure = "; pad the sequences"
        raise ArgumentTypeError(f"input must be a float32 tensor, not {given}{cure}")
    if type(input) is not Tensor or input.is_neg():
        input = entered(input, "input")
    kernel = shared_kernel(
        backend, Quantize(float_zero_points=qparams.scheme == per_channel_affine_float_qparams), (qparams.dtype,)
    )
    try:
        raw = kernel(input.detach(), qparams)
    except Exception:
        entered(input, "input")  # its error, where it is one that no kernel can read
        raise
    return QTensor(raw, qparams, backend)


@overload
def quantize_per_tensor(
    input: Tensor, scale: float | Tensor, zero_point: int | Tensor, dtype: DTypeLike, *, backend: str | None = None
) -> QTensor: ...
@overload
def quantize_per_tensor(
    input: Sequence[Tensor], scale: Tensor, zero_point: Tensor, dtype: DTypeLike, *, backend: str | None = None
) -> list[QTensor]: ...
def quantize_per_tensor(
    input: Tensor | Sequence[Tensor],
    scale: float | Tensor,
    zero_point: int | Tensor,
    dtype: DTypeLike,
    *,
    backend: str | None = None,
) -> QTensor | list[QTensor]:
    """Quantize a float32 tensor of any shape with one scale and zero point, or a list of tensors with a pair for each.

    Scale and zero point are numbers or one-element tensors; for a list, 1-D tensors of its length. `backend` names
    whose kernel runs, now and for operators on the result. Raises ArgumentTypeError for other dtypes, ArgumentError for
    a scale that is not positive and finite or a zero point outside of `dtype`. NaN becomes the highest integer, as in
    torch. Arithmetic: docs/numerics.md.
    """
    qdtype = as_qdtype(dtype)
    if isinstance(input, Tensor):
        number, whole = _one(scale, "scale"), _one(zero_point, "zero_point")
        return quantize(input, _qparams.per_tensor(number, whole, qdtype), backend)
    if not isinstance(input, list | tuple):
        raise ArgumentTypeError(f"input must be a float32 tensor, or a list of such, not {type(input).__name__}")
    try:
        scales, zero_points = torch.as_tensor(scale), torch.as_tensor(zero_point)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"scale and zero_point of a list must hold numbers: {error}") from error
    if scales.shape != (len(input),) or zero_points.shape != (len(input),):
        raise ArgumentError(
            f"scale and zero_point must hold one value for each of {len(input)} tensors; got shapes "
            f"{tuple(scales.shape)} and {tuple(zero_points.shape)}"
        )
    pairs = zip(scales.tolist(), zero_points.tolist(), strict=True)
    parameters = [_qparams.per_tensor(*pair, qdtype) for pair in pairs]
    return [quantize(item, each, backend) for item, each in zip(input, parameters, strict=True)]


def quantize_per_channel(
    input: Tensor, scales: Tensor, zero_points: Tensor, axis: int, dtype: DTypeLike, *, backend: str | None = None
) -> QTensor:
    """Quantize a float32 tensor with one scale and zero point for each slice along `axis`; both (channels,).

    Floating point zero points give the scheme per_channel_affine_float_qparams. Raises ArgumentError for an axis or
    a number of channels that does not fit `input`, else as `quantize_per_tensor`. Arithmetic: docs/numerics.md.
    """
    for name, value in (("input", input), ("scales", scales), ("zero_points", zero_points)):
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{name} must be a tensor, not {type(value).__name__}")
    check_whole(axis=axis)
    if not 0 <= axis < input.ndim:
        raise ArgumentError(f"axis={axis} is outside of [0, {input.ndim}) for an input of shape {tuple(input.shape)}")
    if scales.shape != (input.shape[axis],):
        raise ArgumentError(
            f"scales of shape {tuple(scales.shape)} do not fit axis {axis} of an input of shape {tuple(input.shape)}: "
            f"({input.shape[axis]},) is needed"
        )
    return quantize(input, _qparams.per_channel(scales, zero_points, axis, as_qdtype(dtype)), backend)


@overload
def dequantize(input: Tensor) -> Tensor: ...
@overload
def dequantize(input: Sequence[Tensor]) -> list[Tensor]: ...
def dequantize(input: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """The float32 numbers of a quantized tensor of any shape, or of each of a list; float tensors pass as float32.

    Raises ArgumentTypeError for anything else. Arithmetic: docs/numerics.md, "dequantize".
    """
    if not isinstance(input, Tensor | list | tuple):
        raise ArgumentTypeError(f"dequantize takes a tensor, or a list of tensors, not {type(input).__name__}")
    if not isinstance(input, Tensor):
        return [dequantize(item) for item in input]
    return input.dequantize() if isinstance(input, QTensor) else input.float()


def _one(value: Any, argument: str) -> Any:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ArgumentError(
                f"{argument} must be a number or a tensor of one element, not of shape {tuple(value.shape)}"
            )
        return value.item()
    return value
