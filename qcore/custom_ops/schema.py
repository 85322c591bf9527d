"""The signature of each operator as a custom op of torch: what it is called with, then its constants, then a backend.

Quantization parameters of activations go as numbers, those of weights as tensors; `flatten` and `restore` turn an
operator and a call of it into such arguments, and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from qcore.errors import UnsupportedError
from qcore.operators import CellWeights, Operator, operators
from qcore.tensor.dtypes import as_qdtype, qint8
from qcore.tensor.qparams import QParams

CALLS: dict[type[Operator], tuple[str, ...]] = {kind: kind.call for kind in operators().values() if kind.call}
"""What each operator is called with, of those that have a custom op."""

PARAMETERS = ("out", "qx", "qa", "qb", "qxs")
"""Which of these are QParams, of the tensor that is named after the q, or of the result."""

_TYPES = {
    "Tensor": "Tensor",
    "Tensor | None": "Tensor?",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "int | None": "int?",
    "float | None": "float?",
    "tuple[int, ...]": "int[]",
    "tuple[float, ...]": "float[]",
    "tuple[int, ...] | None": "int[]?",
    "tuple[float, ...] | None": "float[]?",
    "tuple[int | None, ...]": "int[]",
}


@dataclass(frozen=True)
class Constant:
    """A field of an operator that is no plain argument: how it becomes several, and comes back."""

    arguments: tuple[str, ...]
    flatten: Any
    restore: Any


def _parameters(qparams: QParams) -> list[Any]:
    """Per channel as tensors, per tensor as numbers."""
    if qparams.axis is None:
        return [None, None, qparams.scale, qparams.zero_point, -1, qparams.dtype.name]
    return [qparams.scale, qparams.zero_point, 1.0, 0, qparams.axis, qparams.dtype.name]


def _of_parameters(scales: Any, zero_points: Any, scale: float, zero_point: int, axis: int, dtype: str) -> QParams:
    if axis < 0:
        return QParams(as_qdtype(dtype), scale, zero_point)
    return QParams(as_qdtype(dtype), scales, zero_points, axis)


def _cells(cells: Sequence[CellWeights]) -> list[Any]:
    """Eight tensors for each cell, those that it lacks being empty; two scales, zero points and axes."""
    tensors: list[Tensor | None] = []
    numbers: list[list[Any]] = [[], [], []]
    for cell in cells:
        tensors += [cell.w_ih, cell.w_hh, cell.b_ih, cell.b_hh]
        for qparams in (cell.q_ih, cell.q_hh):
            parameters: list[Any] = [None, None, 1.0, 0, _FLOAT16] if qparams is None else _parameters(qparams)
            tensors += parameters[:2]
            for many, number in zip(numbers, parameters[2:], strict=False):
                many.append(number)
    return [[_EMPTY if tensor is None else tensor for tensor in tensors], *numbers]


def _of_cells(
    tensors: Sequence[Tensor], scales: Sequence[float], zero_points: Sequence[int], axes: Sequence[int]
) -> tuple[CellWeights, ...]:
    found = []
    for index in range(len(tensors) // 8):
        mine: list[Any] = [None if tensor.shape == _EMPTY.shape else tensor for tensor in tensors[8 * index :][:8]]
        qparams: list[QParams | None] = []
        for part in (0, 1):
            at = 2 * index + part
            pair: Any = mine[4 + 2 * part : 6 + 2 * part]
            numbers = scales[at], zero_points[at], axes[at], qint8.name
            qparams.append(None if axes[at] == _FLOAT16 else _of_parameters(pair[0], pair[1], *numbers))
        found.append(CellWeights(mine[0], qparams[0], mine[1], qparams[1], mine[2], mine[3]))
    return tuple(found)


_FLOAT16 = -2
"""In the place of an axis, for weights without quantization parameters."""
_EMPTY = torch.empty(0, dtype=torch.float32)

_CONSTANTS = {
    "QParams": Constant(
        (
            "Tensor? {}_scales",
            "Tensor? {}_zero_points",
            "float {}_scale",
            "int {}_zero_point",
            "int {}_axis",
            "str {}_dtype",
        ),
        _parameters,
        _of_parameters,
    ),
    "tuple[CellWeights, ...]": Constant(
        ("Tensor[] {}", "float[] {}_scale", "int[] {}_zero_point", "int[] {}_axis"), _cells, _of_cells
    ),
    "tuple[int | None, ...]": Constant(
        ("int[] {}",),
        lambda sizes: [[-1 if size is None else size for size in sizes]],
        lambda sizes: tuple(None if size == -1 else size for size in sizes),
    ),
}


def _activation(qparams: QParams, operator: Operator) -> Iterator[Any]:
    if qparams.axis is not None:
        raise UnsupportedError(
            f"{operator} of a tensor quantized per channel cannot be traced or exported; dequantize it outside"
        )
    yield from (float(qparams.scale), int(qparams.zero_point), qparams.dtype.name)


def schema(kind: type[Operator]) -> str:
    """The signature of an operator's custom op."""
    arguments: list[str] = []
    for name in CALLS[kind]:
        if name in ("out", "qx", "qa", "qb"):
            arguments += [f"float {name}_scale", f"int {name}_zero_point", f"str {name}_dtype"]
        elif name == "qxs":
            arguments += ["float[] xs_scale", "int[] xs_zero_point", "str xs_dtypes"]
        else:
            arguments.append("Tensor[] xs" if name == "xs" else f"Tensor{'?' if '?' in name else ''} {name.strip('?')}")
    for field in fields(kind):
        constant = _CONSTANTS.get(str(field.type))
        if constant is None:
            arguments.append(f"{_TYPES[str(field.type)]} {field.name}")
        else:
            arguments += [each.format(field.name) for each in constant.arguments]
    results = "Tensor" if kind.results == 1 else f"({', '.join(['Tensor'] * kind.results)})"
    return f"{kind.name}({', '.join(arguments)}, str backend) -> {results}"


def flatten(operator: Operator, call: Sequence[Any], backend: str) -> list[Any]:
    """The arguments of the custom op for one call of an operator; UnsupportedError for activations per channel."""
    found: list[Any] = []
    for name, value in zip(CALLS[type(operator)], call, strict=True):
        if name in ("out", "qx", "qa", "qb"):
            found += _activation(value, operator)
        elif name == "qxs":
            scales, zero_points, dtypes = zip(*(_activation(one, operator) for one in value), strict=True)
            found += [list(scales), list(zero_points), " ".join(dtypes)]
        else:
            found.append(list(value) if name == "xs" else value)
    for field in fields(operator):
        value, constant = getattr(operator, field.name), _CONSTANTS.get(str(field.type))
        if constant is not None:
            found += constant.flatten(value)
        else:
            found.append(list(value) if isinstance(value, tuple) else value)
    return [*found, backend]


def restore(kind: type[Operator], arguments: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The call that some arguments are, and what is left of them: the constants."""
    rest = list(arguments)
    call: list[Any] = []
    for name in CALLS[kind]:
        if name in ("out", "qx", "qa", "qb"):
            scale, zero_point, dtype = rest.pop(0), rest.pop(0), rest.pop(0)
            call.append(QParams(as_qdtype(dtype), scale, zero_point))
        elif name == "qxs":
            many = zip(rest.pop(0), rest.pop(0), rest.pop(0).split(), strict=True)
            call.append([QParams(as_qdtype(dtype), scale, zero_point) for scale, zero_point, dtype in many])
        else:
            call.append(rest.pop(0))
    return call, rest


def operator_of(kind: type[Operator], constants: Sequence[Any]) -> Operator:
    """The operator with constants that `restore` has left, the backend apart."""
    rest = list(constants)
    settings: dict[str, Any] = {}
    for field in fields(kind):
        constant = _CONSTANTS.get(str(field.type))
        if constant is not None:
            settings[field.name] = constant.restore(*(rest.pop(0) for _ in constant.arguments))
        else:
            value = rest.pop(0)
            settings[field.name] = tuple(value) if isinstance(value, list | tuple) else value
    return kind(**settings)


def record(operator: Operator, backend: str, call: Sequence[Any]) -> Any:
    """Call an operator through its custom op, so that what records sees it; UnsupportedError for one without."""
    if type(operator) not in CALLS:
        raise UnsupportedError(f"{operator} has no custom op, so it cannot be traced, compiled or exported")
    return getattr(torch.ops.qcore, operator.name)(*flatten(operator, call, backend))
