"""Classes that hold the packed parameters of torch's modules; qcore's modules hold theirs themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.tensor.dtypes import as_qdtype, is_qdtype, qint8, quint4x2, quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_channel, per_tensor
from qcore.tensor.qtensor import QTensor

__all__ = ["EmbeddingPackedParams", "LinearPackedParams"]


class LinearPackedParams(nn.Module):
    """Weight and bias of a quantized Linear: qint8, or float16 as float."""

    def __init__(self, dtype: Any = qint8) -> None:
        super().__init__()
        self.dtype = as_qdtype(dtype) if is_qdtype(dtype) else dtype
        if self.dtype not in (qint8, torch.float16):
            raise ArgumentError(f"LinearPackedParams: dtype={dtype!r} must be {qint8!r} or torch.float16")
        empty = torch.zeros(1, 1)
        start = quantize(empty, per_tensor(1.0, 0, qint8)) if self.dtype == qint8 else empty
        self._packed_params: tuple[Tensor, Tensor | None] = (start, None)

    def set_weight_bias(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take a weight (out, in) and a bias (out,) or None."""
        if isinstance(weight, QTensor) != (self.dtype == qint8):
            raise ArgumentTypeError(f"LinearPackedParams of {self.dtype!r}: the weight is of {weight.dtype}")
        self._packed_params = (weight, bias)

    def _weight_bias(self) -> tuple[Tensor, Tensor | None]:
        return self._packed_params

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        return x

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "dtype"] = self.dtype
        destination[prefix + "_packed_params"] = self._packed_params

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: list[str],
        extra: list[str],
        errors: Any,
    ) -> None:
        for key in ("dtype", "_packed_params"):
            if prefix + key not in state_dict:
                missing.append(prefix + key)
                return
        self.dtype = state_dict.pop(prefix + "dtype")
        self.set_weight_bias(*state_dict.pop(prefix + "_packed_params"))
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, extra, errors)


class EmbeddingPackedParams(nn.Module):
    """The table of a quantized Embedding, quint8 or quint4x2."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = quint8) -> None:
        super().__init__()
        self.dtype = as_qdtype(dtype)
        if self.dtype not in (quint8, quint4x2):
            raise ArgumentError(f"EmbeddingPackedParams: dtype={dtype!r} must be {quint8!r} or {quint4x2!r}")
        ones = torch.ones(num_embeddings)
        table = torch.zeros(num_embeddings, embedding_dim)
        self._packed_weight: Tensor = quantize(table, per_channel(ones, 0 * ones, 0, self.dtype))

    def set_weight(self, weight: Tensor) -> None:
        """Take a quantized table."""
        if not isinstance(weight, QTensor) or weight.dtype != self.dtype:
            raise ArgumentTypeError(f"EmbeddingPackedParams of {self.dtype!r}: the table is of {weight.dtype}")
        self._packed_weight = weight

    def _weight(self) -> Tensor:
        return self._packed_weight

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        return x
