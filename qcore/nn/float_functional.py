"""Arithmetic between float activations as modules, so that each result has an observer."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qcore.errors import QuantizationError


class _Functional(nn.Module):
    """The operations of float tensors; `_observed` sees each result."""

    def forward(self, x: Any) -> NoReturn:
        """Not meant to be called: QuantizationError, a RuntimeError, names the methods."""
        kind = type(self).__name__
        raise QuantizationError(f"{kind} is not called itself; use its methods add, mul, cat, add_relu, ...")

    def _observed(self, result: Tensor) -> Tensor:
        return result

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y."""
        return self._observed(torch.add(x, y))

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """x + y for a number y; not observed, since the scale of x serves."""
        return torch.add(x, y)

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        """x * y."""
        return self._observed(torch.mul(x, y))

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """x * y for a number y; not observed, since the scale of x serves."""
        return torch.mul(x, y)

    def cat(self, x: list[Tensor], dim: int = 0) -> Tensor:
        """The tensors of x joined along dim."""
        return self._observed(torch.cat(x, dim=dim))

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """relu(x + y)."""
        return self._observed(torch.relu(torch.add(x, y)))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """x @ y."""
        return self._observed(torch.matmul(x, y))


class FloatFunctional(_Functional):
    """add, mul, cat, add_relu, matmul on float tensors of any shape, a module for each place that needs an observer.

    prepare puts the observer at `activation_post_process`; convert makes it a QFunctional.
    """

    def __init__(self) -> None:
        super().__init__()
        self.activation_post_process: nn.Module = nn.Identity()

    def _observed(self, result: Tensor) -> Tensor:
        observed: Tensor = self.activation_post_process(result)
        return observed


class FXFloatFunctional(_Functional):
    """FloatFunctional for tracing: plain operations, whose observers a graph holds itself; shapes as there."""
