"""Modules for quantization-aware training: float layers with fake-quantized weights, by the names of torch.nn.qat."""

from __future__ import annotations

from qcore.nn.qat.conv import Conv1d, Conv2d, Conv3d
from qcore.nn.qat.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from qcore.nn.qat.embedding import Embedding, EmbeddingBag
from qcore.nn.qat.linear import Linear

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Embedding",
    "EmbeddingBag",
    "Linear",
]
