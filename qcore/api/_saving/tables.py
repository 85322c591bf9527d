"""EmbeddingBag as graphs of files call it: torch's reads wherever its offsets say, which the graph may compute."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError


def checked(module: nn.Module) -> None:
    """Let a module check what it is called with, where its class does not."""
    if type(module) is nn.EmbeddingBag:
        module.__class__ = EmbeddingBag


class EmbeddingBag(nn.EmbeddingBag):
    """torch.nn.EmbeddingBag; ArgumentError for offsets outside of the input, and indices outside of the table."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """As torch's. A trace has no checks: it holds what the call that it was made of did."""
        if not (torch.compiler.is_compiling() or torch._C._get_tracing_state()):
            self._check_indices(input)
            if offsets is not None:
                self._check_offsets(input, offsets)
        return super().forward(input, offsets, per_sample_weights)

    def _check_indices(self, given: Tensor) -> None:
        if given.numel() and (int(given.min()) < 0 or int(given.max()) >= self.num_embeddings):
            raise ArgumentError(f"EmbeddingBag: its input has indices outside of its {self.num_embeddings} rows")

    def _check_offsets(self, given: Tensor, offsets: Tensor) -> None:
        least = 1 + self.include_last_offset
        if offsets.ndim != 1 or len(offsets) < least:
            raise ArgumentError(f"EmbeddingBag: offsets of shape {tuple(offsets.shape)}; at least {least} in a row")
        if int(offsets[0]) or bool((offsets.diff() < 0).any()) or int(offsets[-1]) > given.numel():
            raise ArgumentError(f"EmbeddingBag: offsets must rise from 0 to {given.numel()}, the length of its input")
