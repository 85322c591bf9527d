"""Multi-head attention whose projections are quantized; the products between heads stay float."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.quantizable.base import Quantizable
from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.tensor.arguments import check_number, check_whole
from qcore.tensor.entering import check_readable
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor

_PROJECTIONS = ("linear_Q", "linear_K", "linear_V")


class MultiheadAttention(Quantizable):
    """Arguments, inputs, masks, shapes and results as of nn.MultiheadAttention.

    Float tensors before convert, quantized ones after it, weights of the attention too; masks stay as they are. Raises
    ArgumentError for sizes that do not fit. Source: Vaswani et al., "Attention Is All You Need", 2017.
    """

    in_proj_bias = None
    _qkv_same_embed_dim = False
    # nn.TransformerEncoderLayer reads these two, and so keeps away from its fused float kernel

    traced_rank: int | None = None
    """Set while a graph is made of the module: the dimensions that its query has, since the graph holds for these."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_whole(0, embed_dim=embed_dim, kdim=embed_dim if kdim is None else kdim)
        check_whole(0, vdim=embed_dim if vdim is None else vdim)
        check_whole(1, num_heads=num_heads)
        check_number(0, 1, dropout=dropout)
        if embed_dim % num_heads:
            raise ArgumentError(f"num_heads={num_heads!r} must divide embed_dim={embed_dim!r}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.linear_Q: Any
        self.linear_K: Any
        self.linear_V: Any
        self.out_proj: Any
        for name, size in zip((*_PROJECTIONS, "out_proj"), (embed_dim, self.kdim, self.vdim, embed_dim), strict=True):
            self.add_module(name, nn.Linear(size, embed_dim, bias, device, dtype))
        self.bias_k: Any
        self.bias_v: Any
        for name in ("bias_k", "bias_v"):
            extra = nn.Parameter(torch.empty(1, 1, embed_dim, device=device, dtype=dtype)) if add_bias_kv else None
            self.register_parameter(name, extra)
            if extra is not None:
                nn.init.xavier_normal_(extra)
        self.quant_attn_output = QuantStub()
        self.quant_attn_output_weights = QuantStub()
        self.dequant_q = DeQuantStub()
        self.dequant_k = DeQuantStub()
        self.dequant_v = DeQuantStub()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values, and the weights (batch, [heads,] target, source), or None."""
        if is_causal and attn_mask is None:
            raise ArgumentError("is_causal=True says that attn_mask is causal; give that mask too")
        if self.traced_rank is None:
            for name, given in (("query", query), ("key", key), ("value", value)):
                if not isinstance(given, QTensor):
                    check_readable(given, f"{self._label()}: {name}")
                if given.dim() not in (2, 3):
                    shape = tuple(given.shape)
                    raise ArgumentError(
                        f"{self._label()}: {name} must have 2 dimensions, or 3 with a batch, not {shape}"
                    )
        batched = (query.dim() if self.traced_rank is None else self.traced_rank) == 3
        if not batched:
            query, key, value = (each.unsqueeze(1) for each in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        if self.traced_rank is None:
            self._check(query, key, value)
        steps, batch = query.shape[0], query.shape[1]

        q = self.dequant_q(self._heads(_scaled(self.linear_Q(query), self.head_dim**-0.5)))
        k = self._extended(self.dequant_k(self._heads(self.linear_K(key))), self.bias_k, batch)
        v = self._extended(self.dequant_v(self._heads(self.linear_V(value))), self.bias_v, batch)

        weights = torch.bmm(q, k.transpose(1, 2))
        mask = self._mask(attn_mask, key_padding_mask, (batch, steps, key.shape[0]), k.shape[1], weights.dtype)
        weights = F.softmax(weights if mask is None else weights + mask, dim=-1)
        weights = F.dropout(weights, self.dropout, self.training)
        attended = torch.bmm(weights, v).transpose(0, 1).reshape(steps, batch, self.embed_dim)

        result = self.out_proj(self.quant_attn_output(attended))
        weights = self.quant_attn_output_weights(weights).reshape(batch, self.num_heads, steps, k.shape[1])
        if average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            result, weights = result.squeeze(1), weights.squeeze(0)
        elif self.batch_first:
            result = result.transpose(0, 1)
        return result, weights if need_weights else None

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        sizes = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for name, given, features in sizes:
            if given.dim() != 3 or given.shape[2] != features:
                raise ArgumentError(
                    f"{self._label()}: {name} must have 3 dimensions (2 without a batch), the last of "
                    f"size {features}; got shape {tuple(given.shape)}"
                )
        if key.shape[:2] != value.shape[:2] or key.shape[1] != query.shape[1]:
            raise ArgumentError(
                f"{self._label()}: key and value must have the same length, and all the same batch; got "
                f"(length, batch) query {tuple(query.shape[:2])}, key {tuple(key.shape[:2])}, value "
                f"{tuple(value.shape[:2])}"
            )

    def _extended(self, x: Tensor, bias: Tensor | None, batch: int) -> Tensor:
        """Keys or values by head with the rows that bias_kv and add_zero_attn ask for, which stay as they are."""
        rows = [] if bias is None else [self._heads(bias.expand(1, batch, self.embed_dim))]
        rows += [torch.zeros_like(x[:, :1])] if self.add_zero_attn else []
        return torch.cat([x, *rows], 1) if rows else x

    def _heads(self, x: Tensor) -> Tensor:
        """(length, batch, embed_dim) -> (batch * heads, length, head_dim)."""
        return x.contiguous().reshape(x.shape[0], -1, self.head_dim).transpose(0, 1)

    def _mask(
        self,
        attention: Tensor | None,
        padding: Tensor | None,
        sizes: tuple[int, int, int],
        length: int,
        dtype: torch.dtype,
    ) -> Tensor | None:
        """What to add to the products, for `length` keys; keys beyond those that were given are never masked."""
        batch, target, source = sizes
        heads = batch * self.num_heads
        parts = []
        if attention is not None:
            if tuple(attention.shape) not in ((target, source), (heads, target, source)):
                raise ArgumentError(
                    f"attn_mask must have shape {(target, source)} or {(heads, target, source)}; got "
                    f"{tuple(attention.shape)}"
                )
            parts.append(_additive("attn_mask", attention, dtype))
        if padding is not None:
            if tuple(padding.shape) != (batch, source):
                raise ArgumentError(f"key_padding_mask must have shape {(batch, source)}; got {tuple(padding.shape)}")
            each = _additive("key_padding_mask", padding, dtype)
            parts.append(each.repeat_interleave(self.num_heads, 0).unsqueeze(1))
        return F.pad(sum(parts[1:], parts[0]), (0, length - source)) if parts else None

    @classmethod
    def from_float(cls, other: Any) -> MultiheadAttention:
        """The attention in parts, for an nn.MultiheadAttention; ArgumentTypeError for anything else."""
        if not isinstance(other, nn.MultiheadAttention):
            raise ArgumentTypeError(
                f"{cls.__name__}.from_float takes an nn.MultiheadAttention; got a {type(other).__name__}"
            )
        made = cls(
            other.embed_dim,
            other.num_heads,
            other.dropout,
            other.in_proj_bias is not None,
            other.bias_k is not None,
            other.add_zero_attn,
            other.kdim,
            other.vdim,
            other.batch_first,
            other.out_proj.weight.device,
            other.out_proj.weight.dtype,
        )
        with torch.no_grad():
            for name, weight, bias in zip(_PROJECTIONS, *_projections(other), strict=True):
                _copy(getattr(made, name), weight, bias)
            _copy(made.out_proj, other.out_proj.weight, other.out_proj.bias)
            for name in ("bias_k", "bias_v") if other.bias_k is not None else ():
                made.get_parameter(name).copy_(getattr(other, name))
        return made.train(other.training)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # what torch's module saves and never uses: the joint projection of the float one, and a scale of a product
        # with a number
        unused = ("in_proj_", "q_proj_", "k_proj_", "v_proj_", "q_scaling_product.")
        for key in [key for key in state_dict if key.startswith(tuple(prefix + name for name in unused))]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _get_name(self) -> str:
        return "QuantizableMultiheadAttention"


def _scaled(x: Tensor, factor: float) -> Tensor:
    """x times a positive number; of a quantized tensor, the scale."""
    if not isinstance(x, QTensor):
        return x * factor
    scale: Any = x.qparams.scale
    return QTensor(x.raw, per_tensor(scale * factor, x.qparams.zero_point, x.qparams.dtype), x.backend)


def _projections(attention: Any) -> tuple[list[Any], list[Any]]:
    """Weights and biases of query, key and value."""
    if attention._qkv_same_embed_dim:
        weights = list(attention.in_proj_weight.chunk(3))
    else:
        weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    joint = attention.in_proj_bias
    return weights, [None] * 3 if joint is None else list(joint.chunk(3))


def _copy(layer: Any, weight: Tensor, bias: Any) -> None:
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)


def _additive(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add; True stands for minus infinity."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf"))
    if not mask.is_floating_point():
        raise ArgumentTypeError(f"{name} must be of bool or a float dtype, not {mask.dtype}")
    return mask.to(dtype)
