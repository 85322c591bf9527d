"""Operators of calibration and training: ranges, histograms and fake quantization of float32 tensors.

A backend may declare them like any other; observers and fake-quantize modules use the kernels of the model's backend
where it has them, and plain torch otherwise, with the same results to the bit: docs/numerics.md, "Training".

In the call lines, x is float32, dense or not, with at least one element; `axis` is None for one range, scale or zero
point of the whole of x, or the dimension (0 or higher) along which each slice, a channel, has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcore.operators import Operator


@dataclass(frozen=True)
class Range(Operator):
    """Least and greatest. Call: kernel(x, axis) -> (low, high), float32 of shape () or (channels,).

    Both are NaN where not all is finite; the sign of a zero is not fixed.
    """

    name: ClassVar[str] = "range"


@dataclass(frozen=True)
class Histogram(Operator):
    """Counts in bins of width 2**exponent, -126 to 127, the first one from first * 2**exponent, |first| <= 2**24.

    Call: kernel(x, exponent, first) -> (counts int64 (bins,), low, high), with low and high as of Range. Where these do
    not lie in the bins, the counts mean nothing.
    """

    name: ClassVar[str] = "histogram"
    bins: int = 4096


@dataclass(frozen=True)
class EvenHistogram(Operator):
    """Counts in equal bins over all of the range. Call: kernel(x, low, high) -> counts int64 (bins,).

    `low` < `high` are float32, the least and greatest of x, of shape ().
    """

    name: ClassVar[str] = "even_histogram"
    bins: int = 2048


@dataclass(frozen=True)
class FakeQuantize(Operator):
    """x rounded to what the integers quant_min..quant_max stand for, all within 65536.

    Call: kernel(x, scale, zero_point, axis) -> (y, mask); scale float32 and zero_point int32, of one element or
    (channels,). `mask` says where an integer lay inside of the range, for FakeQuantizeBackward of the same backend;
    what is in it is the backend's own affair.
    """

    name: ClassVar[str] = "fake_quantize"
    quant_min: int = 0
    quant_max: int = 255


@dataclass(frozen=True)
class FakeQuantizeBackward(Operator):
    """The gradient of x: that of y inside of the range, else 0. Call: kernel(grad float32, mask) -> float32.

    `grad` has the shape and the strides of y.
    """

    name: ClassVar[str] = "fake_quantize_backward"


@dataclass(frozen=True)
class ObserveFakeQuantize(Operator):
    """FakeQuantize by moving averages of the range of x, which it moves first.

    Call: kernel(x, min_val, max_val, scale, zero_point, axis) -> (y, mask), or None where x holds NaN or infinity, and
    then nothing has changed. The averages (float32; those that are infinite become the range of x), scale (float32) and
    zero_point (int32), all of one element or (channels,), are updated in place.

    `eps`: the least scale, by the rule of observers, which gives symmetric ranges the zero point `middle`; None: by the
    rule of dynamic quantization.
    """

    name: ClassVar[str] = "observe_fake_quantize"
    quant_min: int = 0
    quant_max: int = 255
    symmetric: bool = False
    averaging_constant: float = 0.01
    eps: float | None = None
    middle: int = 0
