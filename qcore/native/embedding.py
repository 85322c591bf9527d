"""Embedding and bags: 8-bit tables are read where they lie, those of 4 bits are packed when the kernel is built."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, empty, float32, get_num_threads

from qcore import operators as ops
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.dtypes import quint4x2
from qcore.tensor.qparams import per_channel

_INDICES = (torch.int32, torch.int64)


def table(operator: ops.Embedding | ops.EmbeddingBag, native: Any) -> Any:
    """The native table: scale s and offset b = -(z * s) of each row as float32; of 4-bit rows, rounded to float16."""
    weight, qweight, mapping = operator.weight, operator.qweight, operator.mapping
    scale = torch.as_tensor(qweight.scale, dtype=torch.float64).float()
    offset = -(torch.as_tensor(qweight.zero_point, dtype=torch.float64).float() * scale)
    if weight.ndim != 2 or qweight.axis != 0 or scale.shape != weight.shape[:1] or offset.shape != scale.shape:
        raise ArgumentError(
            f"{operator.name}: weight {tuple(weight.shape)} must be (rows, dim), with a scale for each row; got "
            f"{qweight}"
        )
    per_channel(torch.as_tensor(qweight.scale), torch.as_tensor(qweight.zero_point), 0, qweight.dtype)  # or it raises
    nibbles = qweight.dtype == quint4x2
    parameters = torch.stack((scale, offset), dim=1)
    if nibbles:
        parameters = parameters.half().float()
    if mapping is not None:
        if mapping.ndim != 1 or mapping.dtype not in _INDICES:
            raise ArgumentError(
                f"{operator.name}: mapping {tuple(mapping.shape)} of {mapping.dtype} must be one-dimensional, and "
                "int32 or int64"
            )
        mapping = mapping.long().contiguous()
    return native.embedding(weight.contiguous(), parameters, mapping, nibbles)


def _is_wide(indices: Tensor) -> bool:
    if indices.dtype not in _INDICES:
        raise ArgumentError(f"indices must be int32 or int64; got {indices.dtype}")
    return indices.dtype == torch.int64


class FloatEmbedding:
    """kernel(indices) -> y"""

    def __init__(self, operator: ops.FloatEmbedding, native: Any) -> None:
        self._weight, self._run = operator.weight, native.float_embedding

    def __call__(self, indices: Tensor) -> Tensor:
        y = empty(*indices.shape, self._weight.shape[1], dtype=float32)
        self._run(indices.contiguous(), _is_wide(indices), self._weight, y, get_num_threads())
        return y


class Embedding:
    """kernel(indices) -> y"""

    def __init__(self, operator: ops.Embedding, native: Any) -> None:
        self._run = table(operator, native).run
        self._dim = operator.weight.shape[1]

    def __call__(self, indices: Tensor) -> Tensor:
        y = empty(indices.numel(), self._dim, dtype=float32)
        self._run(indices.contiguous(), _is_wide(indices), None, False, None, False, y, get_num_threads())
        return y.view(*indices.shape, self._dim)


class EmbeddingBag:
    """kernel(indices, offsets, per_sample_weights) -> y"""

    def __init__(self, operator: ops.EmbeddingBag, native: Any) -> None:
        if operator.mode not in ("sum", "mean"):
            raise ArgumentError(f"embedding_bag: mode {operator.mode!r} is not supported; use 'sum' or 'mean'")
        self._run = table(operator, native).run
        self._dim = operator.weight.shape[1]
        self._mean, self._last = operator.mode == "mean", operator.include_last_offset

    def __call__(self, indices: Tensor, offsets: Tensor | None, per_sample_weights: Tensor | None) -> Tensor:
        if not isinstance(offsets, Tensor | None):
            raise ArgumentTypeError(f"offsets must be a tensor or None, not {type(offsets).__name__}")
        wide = _is_wide(indices)
        if offsets is None:
            if indices.ndim != 2:
                raise ArgumentError(
                    f"indices of shape {tuple(indices.shape)} without offsets: they must be (bags, length)"
                )
            bags = len(indices)
        else:
            if indices.ndim != 1 or offsets.ndim != 1 or offsets.dtype not in _INDICES:
                shapes = f"indices {tuple(indices.shape)} and offsets {tuple(offsets.shape)} of {offsets.dtype}"
                raise ArgumentError(f"{shapes} must both be one-dimensional and int32 or int64")
            bags = max(len(offsets) - self._last, 0)
            offsets = offsets.long().contiguous()
        if per_sample_weights is not None:
            shape, dtype = per_sample_weights.shape, per_sample_weights.dtype
            if self._mean or shape != indices.shape or dtype != torch.float32:
                mode = "mean" if self._mean else "sum"
                raise ArgumentError(
                    f"per_sample_weights of shape {tuple(shape)} and {dtype} with mode {mode!r} and indices "
                    f"{tuple(indices.shape)}: they must be float32 in the shape of indices, and mode must be 'sum'"
                )
            per_sample_weights = per_sample_weights.detach().contiguous()
        y = empty(bags, self._dim, dtype=float32)
        last = self._last and offsets is not None
        self._run(indices.contiguous(), wide, offsets, last, per_sample_weights, self._mean, y, get_num_threads())
        return y
