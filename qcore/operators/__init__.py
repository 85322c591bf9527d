"""The operators a backend can run. Each is built once, from constants and attributes, and called many times.

`Backend.build(operator)` returns a kernel: a callable on plain integer (or float) tensors and their QParams, that
takes and returns what the operator's docstring says under "Call". Weights are canonical: int8 integers in torch's
layout with their QParams; packing them is the kernel's business. Arithmetic: docs/numerics.md, to the bit.

Names in the call lines: x, a, b: integer tensors; qx, qa, qb: their QParams (per tensor); out: QParams of the result.
An activation's memory format carries over: channels_last in, channels_last out; values never depend on it.
"""

from __future__ import annotations

from qcore.operators.attention import Attention
from qcore.operators.base import Operator, is_constant_free, operators
from qcore.operators.elementwise import Add, Clamp, Lookup, Mul, PReLU, Softmax
from qcore.operators.floats import (
    FLOAT_FUNCTIONS,
    Dequantize,
    FloatAdd,
    FloatEmbedding,
    FloatFunction,
    FloatLayerNorm,
    Quantize,
)
from qcore.operators.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from qcore.operators.products import MAX_SUMMED, MatMul
from qcore.operators.recurrent import GRU, LSTM, CellWeights, GRUCell, LSTMCell, RNNCell
from qcore.operators.shape import AdaptiveAvgPool, AvgPool, Cat, Interpolate, MaxPool, Mean
from qcore.operators.weighted import (
    Conv,
    ConvTranspose,
    Embedding,
    EmbeddingBag,
    Linear,
    LinearDynamic,
    LinearFp16,
    Weighted,
)

__all__ = [
    "FLOAT_FUNCTIONS",
    "GRU",
    "LSTM",
    "MAX_SUMMED",
    "AdaptiveAvgPool",
    "Add",
    "Attention",
    "AvgPool",
    "BatchNorm",
    "Cat",
    "CellWeights",
    "Clamp",
    "Conv",
    "ConvTranspose",
    "Dequantize",
    "Embedding",
    "EmbeddingBag",
    "FloatAdd",
    "FloatEmbedding",
    "FloatFunction",
    "FloatLayerNorm",
    "GRUCell",
    "GroupNorm",
    "InstanceNorm",
    "Interpolate",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LinearDynamic",
    "LinearFp16",
    "Lookup",
    "MatMul",
    "MaxPool",
    "Mean",
    "Mul",
    "Operator",
    "PReLU",
    "Quantize",
    "RNNCell",
    "Softmax",
    "Weighted",
    "is_constant_free",
    "operators",
]
