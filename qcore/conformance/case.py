"""What a check of the kit is made of: a facet of a declaration, a recipe for data, and the case that comes of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias, TypeVar

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from qcore.backend import Backend, Kernel
from qcore.capability import OpSpec, WeightSpec
from qcore.operators import Operator
from qcore.tensor.dtypes import QDType, quint8

Layout: TypeAlias = str
LAYOUTS: tuple[Layout, ...] = ("contiguous", "transposed", "sliced", "expanded", "channels_last")


@dataclass(frozen=True)
class Facet:
    """One combination of what an OpSpec declares."""

    spec: OpSpec
    dtype: QDType
    out_dtype: QDType
    weight: WeightSpec | None = None
    fused: str = ""
    spatial: int | None = None
    options: tuple[str, ...] = ()
    function: str = ""

    @property
    def activations(self) -> tuple[QDType, ...]:
        """Dtypes of the inputs and the output; none for an operator on floats that declares none."""
        if not self.spec.activations:
            return ()
        return (self.dtype,) if self.dtype == self.out_dtype else (self.dtype, self.out_dtype)

    def __str__(self) -> str:
        rank = f"{self.spatial}d" if self.spatial else ""
        weight = str(self.weight).replace(" ", "_") if self.weight else ""
        parts = (self.spec.operator.name + rank, *(d.name for d in self.activations), weight, self.function, self.fused)
        return "-".join(part for part in (*parts, *self.options) if part)


def facets(spec: OpSpec, *, mixed: bool) -> Iterator[Facet]:
    """Every combination that one OpSpec declares; `mixed`: also with an output of another dtype than the input.

    float16 goes alone: it stands in place of a weight's dtype, scheme and ranges.
    """
    dtypes = [(a, b) for a, b in product(spec.activations or (quint8,), repeat=2) if mixed or a == b]
    subsets = [tuple(o for o, on in zip(spec.options, bits, strict=True) if on) for bits in _bits(len(spec.options))]
    for (dtype, out_dtype), weight, fused, spatial, options, function in product(
        dtypes,
        spec.weights or (None,),
        ("", *spec.fused),
        spec.spatial or (None,),
        subsets,
        spec.functions or ("",),
    ):
        if "float16" not in options:
            yield Facet(spec, dtype, out_dtype, weight, fused, spatial, options, function)
    if "float16" in spec.options:
        yield Facet(spec, quint8, quint8, options=("float16",))


def _bits(count: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=count)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to draw the data of a case; the same recipe gives the same data.

    `data`: any, lowest or highest integers everywhere; `scale`: usual, tiny (1e-8) or large, of the inputs;
    `zero_point`: any, lowest or highest; `out`: fitting the results; tiny, so that all saturate; or halves,
    so that many results lie halfway between two integers; `layout`: strides of the inputs.
    """

    shape: tuple[int, ...]
    data: str = "any"
    scale: str = "usual"
    zero_point: str = "any"
    out: str = "fitting"
    layout: Layout = "contiguous"
    seed: int = 0


RecipeT = TypeVar("RecipeT", bound=Recipe)
DRAWN: dict[str, SearchStrategy[Any]] = {
    "data": st.sampled_from(("any", "any", "highest", "lowest")),
    "out": st.sampled_from(("fitting", "halves")),
    "scale": st.sampled_from(("usual", "usual", "tiny", "large")),
    "zero_point": st.sampled_from(("any", "any", "lowest", "highest")),
    "layout": st.sampled_from(LAYOUTS),
    "seed": st.integers(0, 2**32 - 1),
}
"""Strategies for all of a recipe but its shape."""


def variations(plain: RecipeT) -> dict[str, RecipeT]:
    """A recipe in other strides, and with scales, zero points and outputs out of the ordinary."""
    found = {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found["out_tiny"] = replace(plain, out="tiny")
    return found | {f"out_halves_{seed}": replace(plain, out="halves", seed=seed) for seed in range(3)}


@dataclass(frozen=True)
class Expected:
    """What the oracle says: the values of the result, or of each of several, and the exact sums that they come of."""

    values: Tensor | tuple[Tensor, ...]
    accumulated: Tensor | None = None
    memory_format: torch.memory_format | None = None


@dataclass(frozen=True)
class Case:
    """An operator, the arguments of one call, and the oracle's answer.

    `build` makes the function that is called with `args`: the backend's kernel, or one around it where the kernel
    changes its arguments or returns what only the backend understands.
    """

    operator: Operator
    args: tuple[Any, ...]
    oracle: Callable[[], Expected]
    build: Callable[[Backend, Operator], Kernel] = lambda backend, operator: backend.build(operator)


Bad: TypeAlias = "tuple[str, Operator, tuple[Any, ...]]"


@dataclass(frozen=True)
class Family:
    """The cases of one operator: written recipes by name, a strategy for drawn ones, and the maker of cases of both.

    `large`: a recipe of enough work for several threads; `oversized`: an operator with one of its extents of a given
    size, or None where the kit can't make one; `requantizes`: whether its output may be of another dtype; `bad`: what
    of its own it must refuse, made from the plain case, by name: operator and arguments.
    """

    operator: type[Operator]
    written: Callable[[Facet], dict[str, Any]]
    drawn: Callable[[Facet], SearchStrategy[Any]]
    make: Callable[[Facet, Any], Case]
    large: Callable[[Facet], Any]
    oversized: Callable[[Facet, str, int], Operator | None] = lambda facet, extent, size: None
    requantizes: bool = True
    bad: Callable[[Case], Iterator[Bad]] = lambda case: iter(())

    def plain(self, facet: Facet) -> Case:
        """The case of the written recipe "plain", which each family has."""
        return self.make(facet, self.written(facet)["plain"])
