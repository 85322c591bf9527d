"""Quantized dtypes and schemes of our own; each equals torch's object of the same name where torch still has it."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from qcore.errors import ArgumentTypeError


class _Named:
    """A singleton that equals, and hashes like, the object of the same name in torch."""

    __slots__ = ("_hash", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        twin = vars(torch).get(name)
        self._hash = hash(twin) if twin is not None else hash(name)

    def __eq__(self, other: object) -> bool:
        return self is other or str(other) == f"torch.{self.name}"

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"qcore.{self.name}"

    def __reduce__(self) -> tuple[object, ...]:
        return _by_name, (self.name,)

    def __copy__(self) -> _Named:
        return self

    def __fx_create_arg__(self, tracer: Any) -> Any:
        # torch.fx takes only torch's own constants as arguments: it records the call that gives this one
        return tracer.create_node("call_function", _by_name, (self.name,), {})

    def __deepcopy__(self, memo: object) -> _Named:
        return self


class QDType(_Named):
    """A quantized dtype: the integer type that stores it and the range of its values."""

    __slots__ = ("qmax", "qmin", "storage")

    def __init__(self, name: str, storage: torch.dtype, qmin: int, qmax: int) -> None:
        super().__init__(name)
        self.storage = storage
        self.qmin = qmin
        self.qmax = qmax

    @property
    def is_signed(self) -> bool:
        """Whether values below zero can be stored."""
        return self.qmin < 0

    @property
    def itemsize(self) -> int:
        """Bytes of storage per element (the packed 4-bit type is stored one value to a byte)."""
        return self.storage.itemsize


class QScheme(_Named):
    """How scale and zero point map to the tensor: one pair for all, or one per slice along an axis."""

    __slots__ = ("per_channel", "symmetric")

    def __init__(self, name: str, *, per_channel: bool, symmetric: bool) -> None:
        super().__init__(name)
        self.per_channel = per_channel
        self.symmetric = symmetric


quint8 = QDType("quint8", torch.uint8, 0, 255)
qint8 = QDType("qint8", torch.int8, -128, 127)
qint32 = QDType("qint32", torch.int32, -(2**31), 2**31 - 1)
quint4x2 = QDType("quint4x2", torch.uint8, 0, 15)

per_tensor_affine = QScheme("per_tensor_affine", per_channel=False, symmetric=False)
per_tensor_symmetric = QScheme("per_tensor_symmetric", per_channel=False, symmetric=True)
per_channel_affine = QScheme("per_channel_affine", per_channel=True, symmetric=False)
per_channel_symmetric = QScheme("per_channel_symmetric", per_channel=True, symmetric=True)
per_channel_affine_float_qparams = QScheme("per_channel_affine_float_qparams", per_channel=True, symmetric=False)

DTYPES = (quint8, qint8, qint32, quint4x2)
SCHEMES = (
    per_tensor_affine,
    per_tensor_symmetric,
    per_channel_affine,
    per_channel_symmetric,
    per_channel_affine_float_qparams,
)
_NAMES: dict[str, _Named] = {item.name: item for item in (*DTYPES, *SCHEMES)}

DTypeLike: TypeAlias = "QDType | torch.dtype"
QSchemeLike: TypeAlias = "QScheme | torch.qscheme"


def _by_name(name: str) -> _Named:
    return _NAMES[name]


# state dicts hold dtypes; looking a name up in a fixed table is safe on any input
torch.serialization.add_safe_globals([_by_name])


def as_qdtype(dtype: object, argument: str = "dtype") -> QDType:
    """Our quantized dtype for ours or torch's object of the same name; ArgumentTypeError for anything else."""
    found = _NAMES.get(str(dtype).rpartition(".")[2])
    if isinstance(found, QDType):
        return found
    allowed = ", ".join(map(repr, DTYPES))
    raise ArgumentTypeError(f"{argument}={dtype!r} is not a quantized dtype; use one of {allowed}")


def as_qscheme(qscheme: object, argument: str = "qscheme") -> QScheme:
    """Our scheme for ours or torch's object of the same name; ArgumentTypeError for anything else."""
    found = _NAMES.get(str(qscheme).rpartition(".")[2])
    if isinstance(found, QScheme):
        return found
    allowed = ", ".join(map(repr, SCHEMES))
    raise ArgumentTypeError(f"{argument}={qscheme!r} is not a quantization scheme; use one of {allowed}")


def is_qdtype(dtype: object) -> bool:
    """Whether this is a quantized dtype, ours or torch's."""
    return isinstance(_NAMES.get(str(dtype).rpartition(".")[2]), QDType)
