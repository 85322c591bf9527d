"""Marks of where a model goes from float to integers and back; convert turns them into Quantize and DeQuantize.

Neither raises errors of its own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class QuantStub(nn.Module):
    """The place where a float tensor becomes quantized: an observer in prepare, Quantize in convert; any shape.

    `qconfig`: the QConfig of this place; without one, the model's.
    """

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()
        if qconfig is not None:
            self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        """x, unchanged."""
        return x


class DeQuantStub(nn.Module):
    """The place where a quantized tensor becomes float again: DeQuantize in convert; any shape.

    `qconfig`: the QConfig of this place; without one, the model's.
    """

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()
        if qconfig is not None:
            self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        """x, unchanged."""
        return x
