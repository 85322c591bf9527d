"""Elementwise operators and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from qcore.operators.base import KEEPING, UNARY, Operator
from qcore.operators.forms import Form, broadcast
from qcore.tensor.qparams import QParams


@dataclass(frozen=True)
class _Binary(Operator):
    """Shared: two inputs that broadcast."""

    call: ClassVar = ("a", "qa", "b", "qb", "out")
    relu: bool = False

    def forms(self, *call: Any) -> Sequence[Form]:
        a, _, b, _, out = call
        return [broadcast(a, b, out.dtype.storage)]


@dataclass(frozen=True)
class Add(_Binary):
    """a + b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "add"


@dataclass(frozen=True)
class Mul(_Binary):
    """a * b of broadcastable shapes. Call: kernel(a, qa, b, qb, out)."""

    name: ClassVar[str] = "mul"


@dataclass(frozen=True)
class Clamp(Operator):
    """Clamp to real bounds (None: open); relu is low=0, relu6 is 0 and 6. Call: kernel(x, qx) -> same QParams as x."""

    name: ClassVar[str] = "clamp"
    call: ClassVar = KEEPING
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Lookup(Operator):
    """A function of one variable through a table of all integers of x's dtype. Call: kernel(x, qx, out).

    `function` is a key of qcore.tables.FUNCTIONS; `args` are its parameters.
    """

    name: ClassVar[str] = "lookup"
    call: ClassVar = UNARY
    function: str = ""
    args: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.function}"


@dataclass(frozen=True, eq=False)
class PReLU(Operator):
    """x above zero, x * weight below; 8-bit weight (1,) or (channels,) of axis 1. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "prelu"
    call: ClassVar = UNARY
    weight: Tensor
    qweight: QParams


@dataclass(frozen=True)
class Softmax(Operator):
    """exp(x) over its sum along `dim`. Call: kernel(x, qx, out)."""

    name: ClassVar[str] = "softmax"
    call: ClassVar = UNARY
    dim: int = -1
