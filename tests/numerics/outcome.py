"""What one drawn case gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """Our result and torch's; `aside`: where torch contradicts itself, so that nothing is demanded."""

    what: str
    ours: Tensor
    theirs: Tensor
    aside: Tensor | None = None


def wraps(value: Tensor) -> Tensor:
    """Where torch's int32 overflows before it clamps: `value` in units of the output's scale, before its zero point."""
    return value.abs() >= 2**31 - 512


Build: TypeAlias = Callable[..., Callable[..., Any]]
Cases: TypeAlias = Callable[..., Iterator[Outcome]]
