"""Values as JSON, with tensors beside: what state dicts, constructor arguments and graphs are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError, UnsupportedError
from qcore.operators import Operator
from qcore.tensor.dtypes import QDType, as_qdtype, quint4x2
from qcore.tensor.qparams import QParams, per_channel, per_tensor
from qcore.tensor.qtensor import QTensor

Other = Callable[[Any], Any]


def _refuse(value: Any) -> Any:
    raise UnsupportedError(f"a {type(value).__name__} has no place in a checkpoint")


class Writer:
    """Turns values into JSON; their tensors are collected in `tensors`, each once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[Any, str] = {}

    def write(self, value: Any, name: str, other: Other = _refuse) -> Any:
        """JSON for a value. `name`: what its tensors are called after; `other`: for kinds that are not known here.

        Raises UnsupportedError for a value of another kind.
        """
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if isinstance(value, tuple | list):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.write(each, f"{name}.{index}", other) for index, each in enumerate(value)]}
        if isinstance(value, Mapping):
            return {"dict": {str(key): self.write(each, f"{name}.{key}", other) for key, each in value.items()}}
        if isinstance(value, slice):
            return {"slice": [self.write(each, name, other) for each in (value.start, value.stop, value.step)]}
        if value is Ellipsis:
            return {"ellipsis": True}
        if isinstance(value, QDType):
            return {"dtype": value.name}
        if isinstance(value, torch.dtype | torch.memory_format):
            return {"torch": str(value).removeprefix("torch.")}
        if isinstance(value, QParams):
            return {"qparams": self._qparams(value, name)}
        if isinstance(value, Operator):
            settings = {field.name: getattr(value, field.name) for field in fields(value)}
            return {"operator": value.name, "settings": self.write(settings, name, other)}
        return other(value)

    def _tensor(self, value: Tensor, name: str) -> Any:
        if not isinstance(value, QTensor):
            return {"tensor": self._kept(value.detach(), name)}
        raw, shape = value.raw, list(value.shape)
        if value.qparams.dtype == quint4x2:
            raw = packed(raw)
        return {"integers": self._kept(raw, name), "shape": shape, "qparams": self._qparams(value.qparams, name)}

    def _qparams(self, qparams: QParams, name: str) -> Any:
        scale, zero_point = qparams.scale, qparams.zero_point
        return {
            "dtype": qparams.dtype.name,
            "scale": self.write(scale, f"{name}.scale"),
            "zero_point": self.write(zero_point, f"{name}.zero_point"),
            "axis": qparams.axis,
        }

    def _kept(self, tensor: Tensor, name: str) -> str:
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()) if tensor.numel() else object()
        if place not in self._seen:
            while name in self.tensors:
                name += "'"
            self._seen[place] = name
            # files hold rows one after the other; the copy also keeps tensors apart that share memory
            self.tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return self._seen[place]


class Reader:
    """Turns JSON back into values; ArgumentError for what `Writer` does not write."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.elements = 2 * sum(tensor.numel() for tensor in tensors.values())
        """How many elements all tensors have at most, some being two to a byte."""

    def read(self, value: Any, other: Other | None = None) -> Any:
        """The value of some JSON; `other`: for kinds that are not known here."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if not isinstance(value, dict) or not value:
            raise ArgumentError(f"its header holds {str(value)[:60]!r} where a value should be")
        kind = next(iter(value))
        reader = _READERS.get(kind)
        if reader is not None:
            return reader(self, value, other)
        if other is not None:
            return other(value)
        raise ArgumentError(f"its header holds a value of the unknown kind {kind!r}")

    def tensor(self, name: Any) -> Tensor:
        """A copy-free tensor of the file, by name."""
        if name not in self._tensors:
            raise ArgumentError(f"its tensor {name!r} is missing")
        return self._tensors[name]

    def _all(self, values: Any, other: Other | None) -> list[Any]:
        if not isinstance(values, list):
            raise ArgumentError("its header is corrupt: a list is missing")
        return [self.read(each, other) for each in values]

    def qparams(self, value: Any) -> QParams:
        """Quantization parameters, checked."""
        dtype, axis = as_qdtype(_name(value, "dtype")), value.get("axis")
        scale, zero_point = self.read(value.get("scale")), self.read(value.get("zero_point"))
        if axis is None:
            if isinstance(scale, bool | str | Tensor | None) or not isinstance(zero_point, int):
                raise ArgumentError("its header is corrupt: a scale or zero point is no number")
            return per_tensor(scale, zero_point, dtype)
        if not (isinstance(scale, Tensor) and isinstance(zero_point, Tensor) and type(axis) is int and axis >= 0):
            raise ArgumentError("its header is corrupt: scales per channel are no tensors")
        return per_channel(scale, zero_point, axis, dtype)

    def _quantized(self, value: Any, other: Other | None) -> QTensor:
        qparams = self.qparams(value["qparams"])
        raw, shape = self.tensor(value["integers"]), value.get("shape")
        if qparams.dtype == quint4x2:
            raw = unpacked(raw, shape)
        if raw.dtype != qparams.dtype.storage or list(raw.shape) != shape:
            raise ArgumentError(f"its tensor {value['integers']!r} is {raw.dtype} of shape {tuple(raw.shape)}")
        axis = qparams.axis
        if axis is not None and (axis >= raw.ndim or len(qparams.scale) != raw.shape[axis]):  # type: ignore[arg-type]
            raise ArgumentError(f"the scales of its tensor {value['integers']!r} do not fit axis {axis}")
        return QTensor(raw, qparams)

    def _operator(self, value: Any, other: Other | None) -> Operator:
        kind = ops.operators().get(_name(value, "operator"))
        settings = self.read(value.get("settings"), other)
        if kind is None or not isinstance(settings, dict) or set(settings) - {field.name for field in fields(kind)}:
            raise ArgumentError(f"its header names an unknown operator {value['operator']!r}, or settings of it")
        return kind(**settings)


def _name(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise ArgumentError(f"its header is corrupt: no {key}")
    return found


_TORCH = {
    str(each).removeprefix("torch."): each
    for each in vars(torch).values()
    if isinstance(each, torch.dtype | torch.memory_format)
}


def _of_torch(reader: Reader, value: Any, other: Other | None) -> Any:
    if _name(value, "torch") not in _TORCH:
        raise ArgumentError(f"its header names torch.{value['torch']}, which this torch does not have")
    return _TORCH[value["torch"]]


_READERS: dict[str, Callable[[Reader, Any, Other | None], Any]] = {
    "float": lambda reader, value, other: float(_name(value, "float")),
    "tensor": lambda reader, value, other: reader.tensor(value["tensor"]),
    "integers": Reader._quantized,
    "tuple": lambda reader, value, other: tuple(reader._all(value["tuple"], other)),
    "list": lambda reader, value, other: reader._all(value["list"], other),
    "dict": lambda reader, value, other: {key: reader.read(each, other) for key, each in value["dict"].items()},
    "slice": lambda reader, value, other: slice(*reader._all(value["slice"], other)),
    "ellipsis": lambda reader, value, other: Ellipsis,
    "dtype": lambda reader, value, other: as_qdtype(_name(value, "dtype")),
    "torch": _of_torch,
    "qparams": lambda reader, value, other: reader.qparams(value["qparams"]),
    "operator": Reader._operator,
}


def packed(values: Tensor) -> Tensor:
    """4-bit values, one to a byte -> flat bytes of two each, the first in the low half; an odd end is padded by 0."""
    flat = values.flatten()
    flat = torch.cat([flat, flat.new_zeros(flat.numel() % 2)])
    return flat[0::2] | flat[1::2] << 4


def unpacked(pairs: Tensor, shape: Any) -> Tensor:
    """What `packed` got, in its shape; ArgumentError where that does not fit."""
    fits = isinstance(shape, list) and all(type(size) is int and 0 <= size < 2**40 for size in shape)
    count = math.prod(shape) if fits else -1
    if pairs.dtype != torch.uint8 or pairs.ndim != 1 or pairs.numel() != (count + 1) // 2:
        raise ArgumentError(f"its 4-bit table of {pairs.numel()} bytes has not the shape {shape}")
    return torch.stack([pairs & 15, pairs >> 4], -1).flatten()[:count].reshape(shape)
