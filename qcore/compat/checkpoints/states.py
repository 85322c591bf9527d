"""State dicts in a file -> state dicts that models of qcore load."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from qcore.compat.checkpoints.packed import unpacked
from qcore.errors import ArgumentError


def state_dict(stored: Mapping[Any, Any]) -> OrderedDict[str, Any]:
    """The values of a stored state dict under its keys, quantized tensors and packed weights as ours."""
    values: OrderedDict[str, Any] = OrderedDict()
    for key, value in stored.items():
        if not isinstance(key, str):
            raise ArgumentError(f"it is no state dict: it has the key {key!r}")
        values[key] = state_dict(value) if isinstance(value, Mapping) else unpacked(value)
    return with_options(values, getattr(stored, "_metadata", {}))


def with_options(values: OrderedDict[str, Any], metadata: Any) -> OrderedDict[str, Any]:
    """The state dict with what torch's own modules do and its files leave unsaid: 7 bits for dynamic activations, one
    range for the whole tensor."""
    noted: Any = OrderedDict()
    for path, entry in metadata.items() if isinstance(metadata, Mapping) else ():
        if isinstance(path, str) and isinstance(entry, Mapping):
            noted[path] = {"version": entry.get("version"), "qcore": {"reduce_range": True, "per_row": False}}
    values._metadata = noted  # type: ignore[attr-defined]
    return values
