"""Between float and integer, and what stays float between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from qcore.operators.base import FLOAT, KEEPING, Operator
from qcore.operators.forms import Form, broadcast, floats, like


@dataclass(frozen=True)
class Quantize(Operator):
    """Float to integer. Call: kernel(x float32, out) -> integer tensor; `out` per tensor or per channel.

    `float_zero_points`: whether the zero points of `out` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "quantize"
    call: ClassVar = ("x", "out")
    float_zero_points: bool = False


@dataclass(frozen=True)
class Dequantize(Operator):
    """Integer to float. Call: kernel(x, qx) -> float32 tensor; `qx` per tensor or per channel.

    `float_zero_points`: whether the zero points of `qx` are float32 (the scheme per_channel_affine_float_qparams).
    """

    name: ClassVar[str] = "dequantize"
    call: ClassVar = KEEPING
    float_zero_points: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        x, _ = call
        return [like(x, x.shape, torch.float32)]


FLOAT_FUNCTIONS = ("gelu", "gelu_tanh", "relu", "sigmoid", "silu", "tanh")
"""What a FloatFunction may be."""


@dataclass(frozen=True)
class FloatFunction(Operator):
    """A function of one float. Call: kernel(x float32) -> float32. `function` is one of FLOAT_FUNCTIONS."""

    name: ClassVar[str] = "float_function"
    call: ClassVar = FLOAT
    function: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.function}"


@dataclass(frozen=True)
class FloatAdd(Operator):
    """a + b of broadcastable shapes. Call: kernel(a float32, b float32) -> float32."""

    name: ClassVar[str] = "float_add"
    call: ClassVar = ("a", "b")

    def forms(self, *call: Any) -> Sequence[Form]:
        a, b = call
        return [broadcast(a, b, torch.float32)]


@dataclass(frozen=True, eq=False)
class FloatLayerNorm(Operator):
    """Normalization over the last len(normalized_shape) dimensions. Call: kernel(x float32) -> float32."""

    name: ClassVar[str] = "float_layer_norm"
    call: ClassVar = FLOAT
    normalized_shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class FloatEmbedding(Operator):
    """Rows of a table; weight float32 (rows, dim), contiguous, read where it is.

    Call: kernel(indices int32 or int64 (...)) -> float32 (..., dim). Raises ArgumentError for an index without a row.
    """

    name: ClassVar[str] = "float_embedding"
    call: ClassVar = FLOAT
    weight: Tensor

    def forms(self, *call: Any) -> Sequence[Form]:
        return [floats(*call[0].shape, self.weight.shape[1])]
