"""Values as JSON, with tensors beside: what state dicts, constructor arguments and graphs are made of."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.api._saving.types import fits, hints
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
        self._sources: list[Tensor] = []

    def write(self, value: Any, name: str, other: Other = _refuse) -> Any:
        """JSON for a value. `name`: what its tensors are called after; `other`: for kinds that are not known here.

        Raises UnsupportedError for a value of another kind.
        """
        if type(value) is int and not -(2**63) <= value < 2**63:
            return {"integer": hex(value)}
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if type(value) is torch.Size:
            return {"size": list(value)}
        if type(value) is range:
            return {"range": [self.write(each, name) for each in (value.start, value.stop, value.step)]}
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.write(each, f"{name}.{index}", other) for index, each in enumerate(value)]}
        if type(value) is complex:
            return {"complex": [self.write(part, name) for part in (value.real, value.imag)]}
        if type(value) is OrderedDict:
            return {"ordered": self.write([*map(list, value.items())], name, other)["list"]}
        if isinstance(value, Mapping) and all(type(key) is str for key in value):
            return {"dict": {key: self.write(each, f"{name}.{key}", other) for key, each in value.items()}}
        if isinstance(value, Mapping):
            pairs = [[self.write(key, name), self.write(each, f"{name}.{key}", other)] for key, each in value.items()]
            return {"items": pairs}
        if isinstance(value, slice):
            return {"slice": [self.write(each, name, other) for each in (value.start, value.stop, value.step)]}
        if value is Ellipsis:
            return {"ellipsis": True}
        if isinstance(value, QDType):
            return {"dtype": value.name}
        if isinstance(value, torch.device) and value == torch.device("cpu"):
            return {"device": "cpu"}
        if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
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
        if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_meta:
            raise UnsupportedError(f"a tensor that is a {type(tensor).__name__} of {tensor.layout}, {tensor.device}")
        if tensor.dtype not in _DTYPES:
            raise UnsupportedError(f"a tensor of {tensor.dtype} has no place in a checkpoint")
        signs = tensor.is_conj(), tensor.is_neg()
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), signs)
        key = place if tensor.numel() else object()
        if key not in self._seen:
            while name in self.tensors or name == "__metadata__":
                name += "'"
            self._seen[key] = name
            self._sources.append(tensor)  # so that no other tensor comes to lie at its place
            # files hold rows one after the other; the copy also keeps tensors apart that share memory
            whole = tensor.detach().cpu().resolve_conj().resolve_neg()
            self.tensors[name] = whole.clone(memory_format=torch.contiguous_format)
        return self._seen[key]


_PLAIN = (Tensor, nn.Parameter)
_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


class Reader:
    """Turns JSON that keeps to the grammar back into values; ArgumentError for what `Writer` does not write."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.elements = 2 * sum(max(tensor.numel(), 16) for tensor in tensors.values())
        """How many elements all tensors have at most, some being two to a byte; small ones count as 16."""

    def read(self, value: Any, other: Other | None = None) -> Any:
        """The value of some JSON; `other`: for kinds that are not known here."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        kind = next(iter(value))
        reader = _READERS.get(kind)
        if reader is None:
            assert other is not None  # the grammar has no kinds but these and those of `other`
            return other(value)
        return reader(self, value, other)

    def tensor(self, name: Any) -> Tensor:
        """A copy-free tensor of the file, by name."""
        if name not in self._tensors:
            raise ArgumentError(f"its tensor {name!r} is missing")
        return self._tensors[name]

    def _all(self, values: list[Any], other: Other | None) -> list[Any]:
        return [self.read(each, other) for each in values]

    def _items(self, value: Any, other: Other | None) -> dict[Any, Any]:
        return {self.read(key): self.read(each, other) for key, each in value["items"]}

    def qparams(self, value: Any) -> QParams:
        """Quantization parameters, checked."""
        dtype, axis = as_qdtype(value["dtype"]), value["axis"]
        scale, zero_point = self.read(value["scale"]), self.read(value["zero_point"])
        if axis is None:
            if type(scale) not in (int, float) or type(zero_point) is not int:
                raise ArgumentError("its header is corrupt: a scale or zero point is no number")
            return per_tensor(scale, zero_point, dtype)
        if not (isinstance(scale, Tensor) and isinstance(zero_point, Tensor)):
            raise ArgumentError("its header is corrupt: scales per channel are no tensors")
        return per_channel(scale, zero_point, axis, dtype)

    def _quantized(self, value: Any, other: Other | None) -> QTensor:
        qparams = self.qparams(value["qparams"])
        raw, shape = self.tensor(value["integers"]), value["shape"]
        if qparams.dtype == quint4x2:
            raw = unpacked(raw, shape)
        if raw.dtype != qparams.dtype.storage or list(raw.shape) != shape:
            raise ArgumentError(f"its tensor {value['integers']!r} is {raw.dtype} of shape {tuple(raw.shape)}")
        axis = qparams.axis
        if axis is not None and (axis >= raw.ndim or len(qparams.scale) != raw.shape[axis]):  # type: ignore[arg-type]
            raise ArgumentError(f"the scales of its tensor {value['integers']!r} do not fit axis {axis}")
        return QTensor(raw, qparams)

    def _operator(self, value: Any, other: Other | None) -> Operator:
        kind = ops.operators().get(value["operator"])
        if kind is None:
            raise ArgumentError(f"its header names an operator {value['operator'][:60]!r}, which is not known")
        settings = self.read(value["settings"], other)
        wanted = hints(kind)
        for name, given in settings.items():
            if name not in wanted or not fits(given, wanted[name]):
                raise ArgumentError(f"its header has a {type(given).__name__} for {name[:60]!r} of {kind.__name__}")
        return kind(**settings)


_TORCH = {
    str(each).removeprefix("torch."): each
    for each in vars(torch).values()
    if isinstance(each, torch.dtype | torch.memory_format | torch.layout)
}


def _of_torch(reader: Reader, value: Any, other: Other | None) -> Any:
    if value["torch"] not in _TORCH:
        raise ArgumentError(f"its header names torch.{value['torch'][:60]}, which this torch does not have")
    return _TORCH[value["torch"]]


_READERS: dict[str, Callable[[Reader, Any, Other | None], Any]] = {
    "float": lambda reader, value, other: float(value["float"]),
    "tensor": lambda reader, value, other: reader.tensor(value["tensor"]),
    "integers": Reader._quantized,
    "tuple": lambda reader, value, other: tuple(reader._all(value["tuple"], other)),
    "list": lambda reader, value, other: reader._all(value["list"], other),
    "dict": lambda reader, value, other: {key: reader.read(each, other) for key, each in value["dict"].items()},
    "items": Reader._items,
    "complex": lambda reader, value, other: complex(*reader._all(value["complex"], other)),
    "ordered": lambda reader, value, other: OrderedDict(map(tuple, reader._all(value["ordered"], other))),
    "integer": lambda reader, value, other: int(value["integer"], 16),
    "bytes": lambda reader, value, other: bytes.fromhex(value["bytes"]),
    "range": lambda reader, value, other: range(*reader._all(value["range"], other)),
    "size": lambda reader, value, other: torch.Size(value["size"]),
    "slice": lambda reader, value, other: slice(*reader._all(value["slice"], other)),
    "ellipsis": lambda reader, value, other: Ellipsis,
    "dtype": lambda reader, value, other: as_qdtype(value["dtype"]),
    "torch": _of_torch,
    "device": lambda reader, value, other: torch.device("cpu"),
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
    count = math.prod(shape)
    if pairs.dtype != torch.uint8 or pairs.ndim != 1 or pairs.numel() != (count + 1) // 2:
        raise ArgumentError(f"its 4-bit table of {pairs.numel()} bytes has not the shape {shape}")
    return torch.stack([pairs & 15, pairs >> 4], -1).flatten()[:count].reshape(shape)
