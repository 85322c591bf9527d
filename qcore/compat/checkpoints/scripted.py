"""Archives of torch.jit.save: the weights of a scripted model, by the keys that the same eager model has."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from qcore.compat.checkpoints.packed import is_packed, unpacked
from qcore.compat.checkpoints.states import with_options
from qcore.compat.checkpoints.unpickle import Stored
from qcore.errors import ArgumentError
from qcore.tensor.dtypes import qint8, quint4x2, quint8


def scripted_state(stored: Any) -> OrderedDict[str, Any]:
    """The state dict of the module in a scripted archive; its code is not read."""
    if not isinstance(stored, Stored):
        raise ArgumentError("its data is no module")
    values: OrderedDict[str, Any] = OrderedDict()
    paths: list[str] = []
    _walk(stored, "", values, paths)
    return with_options(values, {path: {} for path in paths})


def _walk(stored: Stored, path: str, values: OrderedDict[str, Any], paths: list[str]) -> None:
    paths.append(path)
    prefix = f"{path}." if path else ""
    state = stored.state
    if isinstance(state, tuple):
        state = _of_tuple(stored, state)
    if not isinstance(state, dict):
        raise ArgumentError(f"the state of its module {path!r} is a {type(state).__name__}")
    quantized = "quantized" in stored.name
    for name, value in state.items():
        if is_packed(value):
            values[prefix + name] = unpacked(value)
        elif isinstance(value, Stored):
            _walk(value, prefix + name, values, paths)
        elif isinstance(value, Tensor) and not (name in ("bias_ih", "bias_hh") and "_packed_weight_ih" in state):
            values[prefix + name] = value.detach()
        elif quantized and name in ("scale", "zero_point"):
            values[prefix + name] = torch.tensor(value)
        elif quantized and name == "dtype" and "PackedParams" in stored.name:
            values[prefix + name] = _dtype_of(state)
        elif quantized and name == "bias" and "weight" in state and value is None:
            values[prefix + name] = None


def _dtype_of(state: dict[str, Any]) -> Any:
    """The dtype of packed weights, which scripts keep as a number of torch's own."""
    packed = next(unpacked(value) for value in state.values() if is_packed(value))
    weight = packed[0] if isinstance(packed, tuple) else packed
    return weight.dtype if weight.dtype in (qint8, quint8, quint4x2) else torch.float16


def _of_tuple(stored: Stored, state: tuple[Any, ...]) -> dict[str, Any]:
    """Attributes of the modules that write a tuple: convolutions, and packed weights."""
    if ".conv" in stored.name and len(state) >= 14:
        return dict(zip(("weight", "bias", "scale", "zero_point"), state[10:14], strict=True))
    raise ArgumentError(f"the state of a {stored.name} is a tuple of {len(state)}")
