"""How large a model is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from torch import Tensor, nn

from qcore.tensor.arguments import check_module
from qcore.tensor.qparams import QParams


def model_size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, float and quantized, with scales and zero points; each counted once.

    What a backend keeps besides, packed for its kernels, is not counted. 4-bit values take a byte each in memory.
    Raises ArgumentTypeError for anything but a module.
    """
    check_module("model_size", model)
    tensors = chain(model.parameters(), model.buffers(), *map(_of_qparams, model.modules()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _of_qparams(module: nn.Module) -> Iterator[Tensor]:
    for value in vars(module).values():
        if isinstance(value, QParams):
            yield from (part for part in (value.scale, value.zero_point) if isinstance(part, Tensor))
