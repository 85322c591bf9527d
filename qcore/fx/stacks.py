"""stacks: nn.TransformerEncoder and nn.TransformerDecoder ask for sizes and choose kernels; here they only call their
layers, one after the other, as in training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Stack(nn.Module):
    """The layers of one of these, and its norm."""

    def __init__(self, stack: Any) -> None:
        super().__init__()
        self.layers = stack.layers
        self.norm = stack.norm


class EncoderStack(Stack):
    """That of an nn.TransformerEncoder."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Arguments and shapes as of nn.TransformerEncoder."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class DecoderStack(Stack):
    """That of an nn.TransformerDecoder."""

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Arguments and shapes as of nn.TransformerDecoder."""
        masks = {
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
        }
        for layer in self.layers:
            tgt = layer(tgt, memory, **masks, tgt_is_causal=bool(tgt_is_causal), memory_is_causal=memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


STACKS: dict[type[nn.Module], Any] = {nn.TransformerEncoder: EncoderStack, nn.TransformerDecoder: DecoderStack}
