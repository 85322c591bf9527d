"""Dynamically quantized modules: floats in and out, integers in between."""

from __future__ import annotations

from qcore.nn.quantized.dynamic.linear import Linear

__all__ = ["Linear"]
