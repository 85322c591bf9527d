"""The float call that a call stands for: what torch raises there is right here too."""

from __future__ import annotations

from typing import Any

import torch

import qcore
from qcore.nn.float_functional import _Functional
from qcore.nn.qat.base import QATModule
from tests.fuzz.entries import Entry

RAISED_BY_TORCH = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError, OverflowError)


def raised_for_floats(entry: Entry, args: list[Any], kwargs: dict[str, Any], error: Exception) -> bool:
    """Whether the same call with float tensors, or of the float module, raises too: as this, or as torch's errors are.

    Classes other than those are torch's slips (an AttributeError for a list in the place of a tensor), and must be the
    same."""
    try:
        _float_call(entry, _floats(args), _floats(kwargs))
    except Exception as theirs:
        return type(theirs) is type(error) or (
            isinstance(theirs, RAISED_BY_TORCH) and isinstance(error, RAISED_BY_TORCH)
        )
    return False


def _float_call(entry: Entry, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if entry.kind == "torch":
        return entry.call(*args, **kwargs)
    owner, *rest = args or [None]
    if isinstance(owner, _Functional):
        if entry.short == "add_relu":
            return torch.relu(torch.add(*rest, **kwargs))
        return getattr(torch, entry.short.removesuffix("_scalar"))(*rest, **kwargs)
    if isinstance(owner, QATModule) and entry.short == "forward":
        return owner.to_float()(*rest, **kwargs)
    if isinstance(owner, torch.nn.Module) and entry.short == "train":
        return torch.nn.Identity().train(*rest, **kwargs)
    if isinstance(owner, qcore.QuantWrapper) and entry.short == "forward":
        return owner.module(*rest, **kwargs)
    if entry.name == "qcore.profile" and isinstance(owner, torch.nn.Module):
        return owner(*rest[:1])
    return None


def _floats(value: Any) -> Any:
    if isinstance(value, qcore.QTensor):
        return value.dequantize()
    if isinstance(value, list | tuple):
        return type(value)(map(_floats, value))
    return {key: _floats(each) for key, each in value.items()} if isinstance(value, dict) else value
