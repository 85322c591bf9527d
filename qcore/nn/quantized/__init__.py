"""Statically quantized modules, integers in, integers out, by the names of torch.nn.quantized.

Arithmetic: docs/numerics.md, under the name of the operator.
"""

from __future__ import annotations

from qcore.nn.quantized import functional
from qcore.nn.quantized.activation import ELU, Hardswish, LeakyReLU, ReLU6, Sigmoid
from qcore.nn.quantized.attention import MultiheadAttention
from qcore.nn.quantized.conv import Conv1d, Conv2d, Conv3d
from qcore.nn.quantized.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from qcore.nn.quantized.embedding import Embedding, EmbeddingBag
from qcore.nn.quantized.functional_modules import FloatFunctional, FXFloatFunctional, QFunctional
from qcore.nn.quantized.in_float import InFloat
from qcore.nn.quantized.linear import Linear
from qcore.nn.quantized.lstm import LSTM
from qcore.nn.quantized.norms import (
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
)
from qcore.nn.quantized.prelu import PReLU
from qcore.nn.quantized.stubs import DeQuantize, Quantize

__all__ = [
    "ELU",
    "LSTM",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DeQuantize",
    "Embedding",
    "EmbeddingBag",
    "FXFloatFunctional",
    "FloatFunctional",
    "GroupNorm",
    "Hardswish",
    "InFloat",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MultiheadAttention",
    "PReLU",
    "QFunctional",
    "Quantize",
    "ReLU6",
    "Sigmoid",
    "functional",
]
