"""What all operators share, and the list of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from qcore.tensor.qparams import QParams


@dataclass(frozen=True)
class Operator:
    """One operator with all that is known of it before it runs."""

    name: ClassVar[str]

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
    """Whether the operator holds no tensors, so that one kernel serves every use of it."""
    holds_tensors = any(isinstance(value, Tensor | QParams) for value in _values(operator))
    return not holds_tensors and not hasattr(operator, "cells")


def _values(operator: Operator) -> list[Any]:
    return [getattr(operator, field.name) for field in fields(operator)]
