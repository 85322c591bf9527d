"""Training for dynamic quantization."""

from __future__ import annotations

from qcore.nn.qat.dynamic.linear import Linear

__all__ = ["Linear"]
