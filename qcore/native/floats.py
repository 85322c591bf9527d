"""What stays float between quantized layers."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, empty_like, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.native.memory import alike, channels_last, dense, is_channels_last
from qcore.native.normalization import filled


class FloatFunction:
    """kernel(x) -> y"""

    def __init__(self, operator: ops.FloatFunction, native: Any) -> None:
        self._function, self._run = operator.function, native.float_function

    def __call__(self, x: Tensor) -> Tensor:
        x = dense(x)
        y = empty_like(x)
        self._run(x, y, self._function, get_num_threads())
        return y


class FloatAdd:
    """kernel(a, b) -> y"""

    def __init__(self, operator: ops.FloatAdd, native: Any) -> None:
        self._run = native.float_add

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = alike(a, b)
        y = empty_like(a)
        self._run(a, b, y, get_num_threads())
        return y


def norm_constants(operator: ops.FloatLayerNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of each element of a row; they share the memory of the operator's, where it has them."""
    count = math.prod(operator.normalized_shape)
    return filled(operator.weight, count, 1.0), filled(operator.bias, count, 0.0)


class FloatLayerNorm:
    """kernel(x) -> y, with the memory format of x"""

    def __init__(self, operator: ops.FloatLayerNorm, native: Any) -> None:
        self._shape = tuple(operator.normalized_shape)
        self._constants = *norm_constants(operator), operator.eps
        self._run = native.float_layer_norm

    def __call__(self, x: Tensor) -> Tensor:
        if not self._shape or tuple(x.shape[x.ndim - len(self._shape) :]) != self._shape:
            raise ArgumentError(f"float_layer_norm: x {tuple(x.shape)} does not end in {self._shape}")
        rows = x.contiguous().view(math.prod(x.shape[: x.ndim - len(self._shape)]), math.prod(self._shape))
        y = empty_like(rows)
        self._run(rows, *self._constants, y, get_num_threads())
        y = y.view(x.shape)
        return channels_last(y) if is_channels_last(x) else y
