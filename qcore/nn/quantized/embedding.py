"""Quantized tables of embeddings: 8 or 4 bits, a float scale and zero point for each row; float results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.backend import Kernel
from qcore.binding import bind
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.held import held
from qcore.nn.quantized.observed import path_of, planned_qparams, quantize_weight, weight_observer
from qcore.tensor.arguments import check_whole
from qcore.tensor.dtypes import DTypeLike, QDType, as_qdtype, per_channel_affine_float_qparams, quint4x2, quint8
from qcore.tensor.qparams import per_channel
from qcore.tensor.qtensor import QTensor


class Embedding(QuantizedModule):
    """Rows of a quantized table (num_embeddings, embedding_dim): indices (...) -> float32 (..., embedding_dim).

    `dtype` is quint8 or quint4x2; `_weight`, if given, the quantized table. Raises ArgumentError for an index without a
    row. Arithmetic: docs/numerics.md, "embedding".
    """

    computes = "embedding"
    compiles = True
    _raw: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        dtype: DTypeLike = quint8,
    ) -> None:
        super().__init__()
        check_whole(0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        qdtype = as_qdtype(dtype)
        if qdtype not in (quint8, quint4x2):
            raise ArgumentError(f"dtype={dtype!r}: a table of embeddings is {quint8!r} or {quint4x2!r}")
        self.register_buffer("_raw", torch.zeros(num_embeddings, embedding_dim, dtype=torch.uint8), persistent=False)
        ones = torch.ones(num_embeddings, dtype=torch.float32)
        self._qweight = per_channel(ones, 0 * ones, 0, qdtype)
        if _weight is not None:
            self.set_weight(_weight)

    @held
    def weight(self) -> QTensor:
        """The quantized table; it shares memory with the module."""
        return QTensor(self._raw, self._qweight, self._backend)

    def set_weight(self, w: Tensor) -> None:
        """Take a quantized table: quint8 or quint4x2, per channel on axis 0, with float zero points.

        Raises ArgumentTypeError for a tensor that is not quantized, ArgumentError for other shapes, dtypes or schemes.
        """
        shape = (self.num_embeddings, self.embedding_dim)
        if not isinstance(w, QTensor):
            raise ArgumentTypeError(f"{self._label()}: the table must be a quantized tensor, not {type(w).__name__}")
        qparams = w.qparams
        if qparams.dtype not in (quint8, quint4x2) or qparams.axis != 0 or w.raw.shape != shape:
            raise ArgumentError(
                f"{self._label()}: the table must be quint8 or quint4x2 of shape {shape}, per channel on axis 0; got "
                f" {qparams.dtype!r} of shape {tuple(w.raw.shape)}, axis {qparams.axis}"
            )
        self._raw, self._qweight = w.raw.detach(), qparams
        self._forget_kernel()

    def activation_dtypes(self, input: QDType) -> tuple[QDType, ...]:
        """Indices and results are no quantized activations."""
        return ()

    def operator(self) -> ops.Operator:
        """The operator with this module's table."""
        return ops.Embedding(self._raw, self._qweight)

    def forward(self, input: Tensor) -> Tensor:
        """Indices (...) -> floats (..., embedding_dim)."""
        if type(input) is not Tensor:
            input = self._entered(input, "indices", "input", floats=False)
        result: Tensor = self._compute(input)
        return result

    def _example(self) -> tuple[Any, ...]:
        return (torch.zeros(1, 1, dtype=torch.int64),)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(layer.num_embeddings, layer.embedding_dim, layer.padding_idx)

    @classmethod
    def reason_against(cls, qconfig: Any) -> str:
        """Tables take float zero points, for which there are QConfigs of their own."""
        if getattr(qconfig.weight(), "qscheme", None) != per_channel_affine_float_qparams:
            return "its qconfig is not for embeddings; float_qparams_weight_only_qconfig and its 4-bit form are"
        return ""

    @classmethod
    def reason_against_layer(cls, layer: Any) -> str:
        """A quantized table is constant."""
        if layer.max_norm is not None:
            return "max_norm changes the weight at each call"
        return super().reason_against_layer(layer)

    def _take_constants(self, layer: Any, mod: Any) -> None:
        if self.reason_against_layer(layer):
            raise ArgumentError(f"{path_of(mod)}: {self.reason_against_layer(layer)}; a quantized table cannot")
        self.set_weight(quantize_weight(layer.weight, weight_observer(mod), mod))

    def _plan(self, mod: Any, qconfig: Any) -> None:
        self._qweight = planned_qparams(qconfig.weight(), self.num_embeddings, 0)

    def _values(self) -> dict[str, Any]:
        return {"_packed_params.dtype": self._qweight.dtype, "_packed_params._packed_weight": self.weight()}

    def _set_values(self, values: dict[str, Any]) -> None:
        self.set_weight(values["_packed_params._packed_weight"])

    @classmethod
    def from_reference(cls, ref_embedding: Any) -> Any:
        """The module for a reference one: float weights with their quantization parameters beside."""
        quantized = cls._like(ref_embedding)
        quantized.set_weight(ref_embedding.get_quantized_weight())
        return quantized

    def extra_repr(self) -> str:
        """Sizes, dtype and scheme."""
        return (
            f"num_embeddings={self.num_embeddings}, embedding_dim={self.embedding_dim}, dtype={self._qweight.dtype}, "
            f"qscheme={self._qweight.scheme}"
        )


class EmbeddingBag(Embedding):
    """Sums or means of bags of rows of a quantized table -> float32 (bags, embedding_dim); as nn.EmbeddingBag.

    Raises ArgumentError for an index without a row or offsets that do not rise. Arithmetic: docs/numerics.md,
    "embedding_bag".
    """

    computes = "embedding_bag"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "sum",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        dtype: DTypeLike = quint8,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, _weight=_weight, dtype=dtype)
        if mode not in ("sum", "mean"):
            raise ArgumentError(f"mode={mode!r}: a quantized EmbeddingBag has 'sum' and 'mean'")
        self.mode = mode
        self.include_last_offset = include_last_offset
        self.pruned_weights = False

    def operator(self) -> ops.Operator:
        """The operator with this module's table."""
        return ops.EmbeddingBag(self._raw, self._qweight, None, self.mode, self.include_last_offset)

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
        compressed_indices_mapping: Tensor | None = None,
    ) -> Tensor:
        """Indices (n,) with offsets (bags,), or (bags, length) without -> float32 (bags, embedding_dim).

        `compressed_indices_mapping`, for a pruned table: int32 (rows before pruning,), the row left for each, -1 for
        none.
        """
        if type(input) is not Tensor:
            input = self._entered(input, "indices", "input", floats=False)
        if per_sample_weights is not None:
            per_sample_weights = self._entered(per_sample_weights, "floats, as weights", "per_sample_weights")
        if compressed_indices_mapping is not None:
            pruned: Tensor = self._pruned(compressed_indices_mapping)(input, offsets, per_sample_weights)
            return pruned
        result: Tensor = self._compute(input, offsets, per_sample_weights)
        return result

    def _pruned(self, mapping: Tensor) -> Kernel:
        pruned = ops.EmbeddingBag(self._raw, self._qweight, mapping, self.mode, self.include_last_offset)
        return bind(self._backend, pruned).build()

    @classmethod
    def reason_against_layer(cls, layer: Any) -> str:
        """A quantized bag sums up all of its rows, or averages them."""
        if layer.mode not in ("sum", "mean"):
            return f"mode={layer.mode!r}; only 'sum' and 'mean' have a quantized form"
        if layer.padding_idx is not None:
            return f"padding_idx={layer.padding_idx}; a quantized bag counts every index"
        return super().reason_against_layer(layer)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(
            layer.num_embeddings,
            layer.embedding_dim,
            mode=layer.mode,
            include_last_offset=layer.include_last_offset,
        )
