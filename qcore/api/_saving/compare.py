"""Where two saved models differ: what `save` asks of the model that its file would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Saved: TypeAlias = "tuple[dict[str, Any], Mapping[str, Tensor]]"
"""A header, and the tensors that it names."""


def difference(a: Saved, b: Saved) -> str:
    """Where two saved models differ, in words; empty where they do not. Names of tensors in files do not matter."""
    modules = {entry["path"]: entry for entry in b[0]["modules"]}
    for entry in a[0]["modules"]:
        place = _place(entry, modules.get(entry["path"]), a[1], b[1])
        if place is not None:
            return f"module {entry['path'] or '(root)'!r}, its {place.strip('.') or 'place'}"
    for field in ("modules", "state", "tied", "options", "versions", "report", "backend"):
        place = _place(a[0][field], b[0][field], a[1], b[1])
        if place is not None:
            return f"its {field}{place}"
    return ""


def _place(a: Any, b: Any, of_a: Mapping[str, Tensor], of_b: Mapping[str, Tensor]) -> str | None:
    """The path to the first difference of two values of JSON; None where there is none."""
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return ""
        for key, value in a.items():
            if key in ("tensor", "integers") and isinstance(value, str):
                found = None if _same(of_a[value], of_b[b[key]]) else ""
            else:
                found = _place(value, b[key], of_a, of_b)
            if found is not None:
                return f".{key}{found}"
        return None
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return ""
        places = (_place(*pair, of_a, of_b) for pair in zip(a, b, strict=True))
        return next((f"[{index}]{place}" for index, place in enumerate(places) if place is not None), None)
    return None if type(a) is type(b) and a == b else ""


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))
