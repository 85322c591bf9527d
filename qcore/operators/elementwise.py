"""Elementwise operators and softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from qcore.operators.base import Operator
from qcore.tensor.qparams import QParams


@dataclass(frozen=True)
class Add(Operator):
    """a + b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "add"
    relu: bool = False


@dataclass(frozen=True)
class Mul(Operator):
    """a * b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "mul"
    relu: bool = False


@dataclass(frozen=True)
class Clamp(Operator):
    """Clamp to real bounds (None: open); relu is low=0, relu6 is 0 and 6. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "clamp"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Lookup(Operator):
    """A function of one variable through a table of all integers of x's dtype. Call: kernel(x, qx, out).

    `function` is a key of qcore.tables.FUNCTIONS; `args` are its parameters.
    """

    name: ClassVar[str] = "lookup"
    function: str = ""
    args: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.function}"


@dataclass(frozen=True, eq=False)
class PReLU(Operator):
    """x above zero, x * weight below; 8-bit weight (1,) or (channels,) of axis 1. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "prelu"
    weight: Tensor
    qweight: QParams


@dataclass(frozen=True)
class Softmax(Operator):
    """exp(x) over its sum along `dim`. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "softmax"
    dim: int = -1
