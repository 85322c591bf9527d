"""Dynamically quantized forms of the fused modules."""

from __future__ import annotations

from qcore.nn.quantized import dynamic as nnqd


class LinearReLU(nnqd.Linear):
    """Linear and ReLU in one; everything else as dynamically quantized Linear."""

    relu = True


__all__ = ["LinearReLU"]
