"""Each operator as a custom op `qcore::NAME` on plain tensors: for traces, torch.compile and torch.export.

Modules in eager mode call their kernel; a recorded call finds its kernel here, by what its constants are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.binding import bind
from qcore.custom_ops.schema import CALLS, operator_of, restore, schema
from qcore.errors import ArgumentError, QcoreError
from qcore.operators import LinearDynamic, Operator
from qcore.operators.forms import Form
from qcore.registry import registry
from qcore.tensor.arguments import OF_ARGUMENTS
from qcore.tensor.dtypes import QDType, quint8
from qcore.tensor.qparams import QParams

_LIBRARY: Any = torch.library.Library("qcore", "DEF")  # type: ignore[no-untyped-call]
_BOUND = 1024


class _Kernels:
    """Kernels by backend, operator and constants: tensors count as the same while their memory and version are.

    An entry holds its constants, so that no other tensor can come to lie where they do; the oldest go first.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[Any, tuple[Operator, Kernel, Sequence[Any]]] = OrderedDict()
        self._lock = Lock()
        registry.when_changed(self._forget)

    def _forget(self) -> None:
        self._found = OrderedDict()  # a kernel that is being built goes to the former one

    def get(
        self, kind: type[Operator], constants: Sequence[Any], activations: tuple[QDType, ...]
    ) -> tuple[Operator, Kernel]:
        """The operator and its kernel for activations of these dtypes; built where they are not there."""
        found = self._found
        key = (kind, activations, *map(_identity, constants))
        entry = found.get(key)
        if entry is None:
            *settings, backend = constants
            operator = operator_of(kind, settings)
            entry = operator, bind(backend, operator, activations).kernel(), constants
        with self._lock:
            found[key] = entry
            found.move_to_end(key)
            if len(found) > _BOUND:
                found.popitem(last=False)
        return entry[0], entry[1]


def _identity(value: Any) -> Any:
    if isinstance(value, Tensor):
        version = 0 if value.is_inference() else value._version
        storage = value.untyped_storage()
        where = storage._cdata, value.storage_offset(), tuple(value.shape), value.stride()
        return *where, value.dtype, value.is_neg(), version
    return tuple(map(_identity, value)) if isinstance(value, list | tuple) else value


_KERNELS = _Kernels()


def _implementation(kind: type[Operator]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        try:
            call, constants = restore(kind, arguments)
            operator, kernel = _KERNELS.get(kind, constants, _activations(kind, call))
            return _in_form(kernel(*call), operator.forms(*call))
        except QcoreError:
            raise
        except OF_ARGUMENTS as error:
            # the schema holds types; what values of them go together, the operator and its kernel have to say
            raise ArgumentError(f"qcore::{kind.name}: arguments that do not fit each other: {error}") from error

    return run


def _activations(kind: type[Operator], call: Sequence[Any]) -> tuple[QDType, ...]:
    """Dtypes of the activations of a call, by which backends are asked."""
    if kind is LinearDynamic:
        return (quint8,)
    parameters = [each for value in call for each in (value if isinstance(value, list) else [value])]
    return tuple(each.dtype for each in parameters if isinstance(each, QParams))


def _fake(kind: type[Operator]) -> Callable[..., Any]:
    def outline(*arguments: Any) -> Any:
        _check_meta(kind, arguments)
        call, constants = restore(kind, arguments)
        first = call[0][0] if isinstance(call[0], list) else call[0]
        made = [
            torch.empty(shape, dtype=dtype, device=first.device, memory_format=memory_format)
            for shape, dtype, memory_format in operator_of(kind, constants[:-1]).forms(*call)
        ]
        return made[0] if kind.results == 1 else tuple(made)

    return outline


def _check_meta(kind: type[Operator], arguments: Sequence[Any]) -> None:
    """ArgumentError for a tensor on the device meta among others: torch takes the outline for all then, and a result
    on the device of the others would be memory that nothing was written to."""
    tensors = [item for each in arguments for item in (each if isinstance(each, list | tuple) else (each,))]
    devices = {tensor.device for tensor in tensors if isinstance(tensor, Tensor)}
    if len(devices) > 1 and any(device.type == "meta" for device in devices):
        names = ", ".join(sorted(map(str, devices)))
        raise ArgumentError(f"qcore::{kind.name}: its tensors are on the devices {names}; all must be on one")


def _in_form(results: Any, expected: Sequence[Form]) -> Any:
    """Results in the memory layout that fake tensors have."""
    many = results if isinstance(results, tuple | list) else (results,)
    laid = [
        result if result.is_contiguous(memory_format=form[2]) else result.contiguous(memory_format=form[2])
        for result, form in zip(many, expected, strict=True)
    ]
    return tuple(laid) if isinstance(results, tuple | list) else laid[0]


def _define(kind: type[Operator]) -> None:
    _LIBRARY.define(schema(kind), tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(kind.name, _implementation(kind), device)
    torch.library.register_fake(f"qcore::{kind.name}", _fake(kind), lib=_LIBRARY)


for _kind in CALLS:
    _define(_kind)
