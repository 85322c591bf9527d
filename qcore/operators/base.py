"""What all operators share, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from qcore.operators.forms import Form, like, storage
from qcore.tensor.qparams import QParams

UNARY, KEEPING, FLOAT = ("x", "qx", "out"), ("x", "qx"), ("x",)
"""The usual calls: with parameters of the result, with those of x for the result, too, and on floats."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """Frozen data that may hold tensors. Two are equal where they are of one class and each field is: tensors as
    objects, all else by value.

    Subclasses with tensors among their fields are declared with eq=False, and so keep this equality; to others the
    dataclass decorator gives the same in fewer steps.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(map(_is_same, _values(self), _values(other)))

    def __hash__(self) -> int:
        return hash((type(self), *_values(self)))


@dataclass(frozen=True, eq=False)
class Operator(Frozen):
    """One operator with all that is known of it before it runs."""

    name: ClassVar[str]

    call: ClassVar[tuple[str, ...]] = ()
    """What a kernel is called with: q... and out are QParams, x... lists, ? may be None. Empty: it has no custom op."""

    results: ClassVar[int] = 1
    """How many tensors it gives."""

    def forms(self, *call: Any) -> Sequence[Form]:
        """Sizes, dtype and layout of each result of a call; unless said otherwise, one like the first input."""
        given = dict(zip(self.call, call, strict=True))
        x = given["x"]
        return [like(x, x.shape, storage(x, given.get("out")))]

    @property
    def fused(self) -> tuple[str, ...]:
        """Names of the operations fused after this one."""
        return ("relu",) if getattr(self, "relu", False) else ()

    def extents(self) -> dict[str, int]:
        """Sizes that a declaration may limit, by name."""
        return {}

    @property
    def spatial(self) -> int | None:
        """Number of spatial dimensions, for convolutions and pooling."""
        return None

    def __str__(self) -> str:
        return " + ".join((self.name, *self.fused))


def operators() -> dict[str, type[Operator]]:
    """Every operator by its name."""
    found: dict[str, type[Operator]] = {}
    pending: list[type[Operator]] = list(Operator.__subclasses__())
    while pending:
        item = pending.pop()
        pending.extend(item.__subclasses__())
        if "name" in vars(item):
            found[item.name] = item
    return dict(sorted(found.items()))


def is_constant_free(operator: Operator) -> bool:
    """Whether the operator holds no tensors, so that one kernel serves all that are equal to it."""
    return not any(map(_holds_tensors, _values(operator)))


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_holds_tensors, value))
    return isinstance(value, Tensor | QParams | Frozen)


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one is other or (not isinstance(one, Tensor) and bool(one == other))


def _values(held: Frozen) -> list[Any]:
    return [getattr(held, field.name) for field in fields(held)]
