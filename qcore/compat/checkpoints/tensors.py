"""Storages and tensors of a file: torch's rebuilding functions, in ours, with every size checked against the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError
from qcore.tensor.dtypes import DTYPES, QDType, QScheme, as_qdtype, quint4x2
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor


@dataclass(frozen=True)
class StorageKind:
    """The dtype of a storage class that a file names: torch's, or one of our quantized ones."""

    dtype: Any

    @property
    def plain(self) -> torch.dtype:
        """The dtype of the bytes."""
        return self.dtype.storage if isinstance(self.dtype, QDType) else self.dtype


@dataclass(frozen=True)
class Storage:
    """The elements of a storage, flat; two to a byte for quint4x2."""

    kind: StorageKind
    flat: Tensor


STORAGES: dict[str, StorageKind] = {
    f"{name}Storage": StorageKind(dtype)
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        **{
            {"quint8": "QUInt8", "qint8": "QInt8", "qint32": "QInt32", "quint4x2": "QUInt4x2"}[d.name]: d
            for d in DTYPES
        },
    }.items()
}


def storage(kind: StorageKind, data: bytearray) -> Storage:
    """A storage over bytes; ArgumentError where they are no whole number of elements."""
    if len(data) % kind.plain.itemsize:
        raise ArgumentError(f"a storage of {len(data)} bytes is no whole number of {kind.plain} elements")
    flat = torch.frombuffer(data, dtype=kind.plain) if data else torch.empty(0, dtype=kind.plain)
    return Storage(kind, flat)


def _view(flat: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
    """A strided view of elements; ArgumentError where it leaves them, or is larger than they are."""
    sizes, strides = tuple(size), tuple(stride)
    numbers = (offset, *sizes, *strides)
    if len(sizes) != len(strides) or not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ArgumentError(f"a tensor of size {sizes} and stride {strides} at {offset!r} makes no sense")
    count = 1
    for number in sizes:
        count *= number
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) if count else offset
    if count > flat.numel() or (count and last >= flat.numel()) or offset > flat.numel():
        raise ArgumentError(
            f"a tensor of size {sizes}, stride {strides} at {offset} does not fit its storage of {flat.numel()}"
        )
    return torch.as_strided(flat, sizes, strides, offset)


def rebuild_tensor(source: Any, offset: Any, size: Any, stride: Any, *unused: Any) -> Tensor:
    """A plain tensor; the rest of torch's arguments (gradient, hooks) do not matter."""
    found = _storage(source)
    if isinstance(found.kind.dtype, QDType):
        raise ArgumentError(f"a plain tensor over a storage of {found.kind.dtype!r}")
    return _view(found.flat, offset, size, stride)


def rebuild_qtensor(source: Any, offset: Any, size: Any, stride: Any, quantizer: Any, *unused: Any) -> QTensor:
    """A quantized tensor; `quantizer` is (scheme, scale, zero point), or with tensors and an axis per channel."""
    found = _storage(source)
    dtype = as_qdtype(found.kind.dtype)
    scheme, *parameters = quantizer
    if not isinstance(scheme, QScheme):
        raise ArgumentError(f"a quantized tensor with {scheme!r} for a scheme")
    flat = unpacked(found.flat) if dtype == quint4x2 else found.flat
    raw = _view(flat, offset, size, stride)
    if not scheme.per_channel:
        scale, zero_point = parameters
        return QTensor(raw, per_tensor(scale, zero_point, dtype))
    scales, zero_points, axis = parameters
    if not isinstance(axis, int) or not 0 <= axis < raw.ndim or scales.shape != (raw.shape[axis],):
        raise ArgumentError(f"scales of shape {tuple(scales.shape)} do not fit axis {axis!r} of {tuple(raw.shape)}")
    return QTensor(raw, per_channel(scales, zero_points, axis, dtype))


def rebuild_parameter(data: Any, requires_grad: Any, *unused: Any) -> Tensor:
    """A parameter over a float tensor; a quantized one stays as it is."""
    if not isinstance(data, Tensor):
        raise ArgumentError(f"a parameter that is a {type(data).__name__}")
    if isinstance(data, QTensor) or not data.is_floating_point():
        return data
    return nn.Parameter(data, bool(requires_grad))


def unpacked(pairs: Tensor) -> Tensor:
    """Bytes of two 4-bit values each, the first in the low half -> one value to a byte."""
    return torch.stack([pairs & 15, pairs >> 4], -1).flatten()


def _storage(source: Any) -> Storage:
    if not isinstance(source, Storage):
        raise ArgumentError(f"a tensor over a {type(source).__name__} instead of a storage")
    return source
