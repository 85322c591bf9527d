"""Statically quantized multi-head attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qcore.nn.quantizable.attention import MultiheadAttention as QuantizableMultiheadAttention


class MultiheadAttention(QuantizableMultiheadAttention):
    """What convert makes of nn.quantizable.MultiheadAttention: the same parts, quantized; quantized tensors in, and
    out."""

    def dequantize(self) -> nn.MultiheadAttention:
        """The float module with the values of the integer weights."""
        parts: list[Any] = [self.linear_Q, self.linear_K, self.linear_V]
        weights = [part.weight().dequantize() for part in parts]
        biases = [part.bias() for part in parts]
        made: Any = nn.MultiheadAttention(
            self.embed_dim,
            self.num_heads,
            self.dropout,
            biases[0] is not None,
            self.bias_k is not None,
            self.add_zero_attn,
            self.kdim,
            self.vdim,
            self.batch_first,
        )
        values = {"out_proj.weight": self.out_proj.weight().dequantize()}
        if made._qkv_same_embed_dim:
            values["in_proj_weight"] = torch.cat(weights)
        else:
            values |= {f"{name}_proj_weight": weight for name, weight in zip("qkv", weights, strict=True)}
        if biases[0] is not None:
            values |= {"in_proj_bias": torch.cat(biases), "out_proj.bias": self.out_proj.bias()}
        if self.bias_k is not None:
            values |= {"bias_k": self.bias_k.detach(), "bias_v": self.bias_v.detach()}
        made.load_state_dict(values)
        attention: nn.MultiheadAttention = made.train(self.training)
        return attention

    def _get_name(self) -> str:
        return "QuantizedMultiheadAttention"
