"""How far two tensors are apart."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compute_cosine_similarity", "compute_normalized_l2_error", "compute_sqnr"]


def compute_sqnr(x: Tensor, y: Tensor) -> Tensor:
    """Signal to quantization noise, in dB: 20 log10(|x| / |x - y|), for tensors of one shape, quantized or not."""
    x, y = _real(x), _real(y)
    return 20 * torch.log10(torch.linalg.vector_norm(x) / torch.linalg.vector_norm(x - y))


def compute_normalized_l2_error(x: Tensor, y: Tensor) -> Tensor:
    """The 2-norm of x - y over that of x."""
    x, y = _real(x), _real(y)
    return torch.sqrt((x - y).square().sum() / x.square().sum())


def compute_cosine_similarity(x: Tensor, y: Tensor) -> Tensor:
    """The cosine of the angle between x and y, each taken as one vector."""
    return torch.nn.functional.cosine_similarity(_real(x).reshape(1, -1), _real(y).reshape(1, -1))


def _real(x: Tensor) -> Tensor:
    return x.dequantize() if x.is_quantized else x.float()
