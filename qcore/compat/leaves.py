"""torch.fx takes modules of torch.nn and torch.ao.nn as leaves: those of qcore, which stand for the latter, are too."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from qcore.nn.stubs import DeQuantStub, QuantStub

_OWN = fx.Tracer.is_leaf_module
_INSIDE = (nn.Sequential, QuantStub, DeQuantStub)
"""Traced into, as torch does with its own."""


def is_leaf_module(self: Any, m: nn.Module, module_qualified_name: str) -> bool:
    """torch's rule, and qcore's modules beside."""
    ours = type(m).__module__.startswith("qcore.nn.") and not isinstance(m, _INSIDE)
    return ours or _OWN(self, m, module_qualified_name)
