"""Quantized forms of the fused modules: the ReLU is a bound of the output's range and costs nothing."""

from __future__ import annotations

from qcore.nn import quantized as nnq


class ConvReLU1d(nnq.Conv1d):
    """Conv1d and ReLU in one; everything else as quantized Conv1d."""

    relu = True


class ConvReLU2d(nnq.Conv2d):
    """Conv2d and ReLU in one; everything else as quantized Conv2d."""

    relu = True


class ConvReLU3d(nnq.Conv3d):
    """Conv3d and ReLU in one; everything else as quantized Conv3d."""

    relu = True


class BNReLU2d(nnq.BatchNorm2d):
    """BatchNorm2d and ReLU in one; everything else as quantized BatchNorm2d."""

    relu = True


class BNReLU3d(nnq.BatchNorm3d):
    """BatchNorm3d and ReLU in one; everything else as quantized BatchNorm3d."""

    relu = True


class LinearReLU(nnq.Linear):
    """Linear and ReLU in one; everything else as quantized Linear."""

    relu = True


__all__ = ["BNReLU2d", "BNReLU3d", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "LinearReLU"]
