"""Embeddings whose table is fake-quantized, with a float scale and zero point for each row."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from qcore.errors import ArgumentError
from qcore.nn.qat.base import QATModule, take_copies
from qcore.tensor.dtypes import per_channel_affine_float_qparams


class _Table(QATModule):
    num_embeddings: int
    embedding_dim: int

    def __init__(self, *args: Any, qconfig: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._init_fake_quant(qconfig)

    def _check_qconfig(self, qconfig: Any) -> None:
        scheme = getattr(qconfig.weight(), "qscheme", None)
        if scheme != per_channel_affine_float_qparams:
            raise ArgumentError(
                f"{type(self).__name__}: tables take float zero points for each row, the qscheme "
                f"per_channel_affine_float_qparams; this qconfig's weight has {scheme}. Use "
                "default_embedding_qat_qconfig, or its 4-bit form"
            )

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        return cls(*_sizes(layer), **_settings(layer), qconfig=qconfig)

    def _float_layer(self) -> nn.Module:
        kind: Any = self.float_class
        return take_copies(kind(*_sizes(self), **_settings(self)), self)


def _sizes(layer: Any) -> tuple[int, int]:
    return layer.num_embeddings, layer.embedding_dim


def _settings(layer: Any) -> dict[str, Any]:
    names = ["padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"]
    names += ["mode", "include_last_offset"] if isinstance(layer, nn.EmbeddingBag) else []
    return {name: getattr(layer, name) for name in names}


class Embedding(_Table, nn.Embedding):
    """nn.Embedding with a fake-quantized table: indices (...) -> float (..., embedding_dim); arguments as
    nn.Embedding's, and `qconfig`.

    Raises ArgumentError without a qconfig, or with one that is not for embeddings.
    """

    float_class: ClassVar[type[nn.Module]] = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the table."""
        return F.embedding(
            input,
            self.quantized_weight(),
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


class EmbeddingBag(_Table, nn.EmbeddingBag):
    """nn.EmbeddingBag with a fake-quantized table: bags of indices -> float (bags, embedding_dim); arguments as
    nn.EmbeddingBag's, and `qconfig`.

    Raises ArgumentError without a qconfig, or with one that is not for embeddings.
    """

    float_class: ClassVar[type[nn.Module]] = nn.EmbeddingBag

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Sums, means or maxima of bags of rows."""
        return F.embedding_bag(
            input,
            self.quantized_weight(),
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )
