"""Nodes of a quantized graph that move integers and compute nothing; calling one on a tensor says what it does.

Dimensions may be negative, counted from the last.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Move:
    """One movement of elements; results have the dtype and the QParams of the first input, unless said otherwise."""

    name: ClassVar[str]

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        """The result for plain tensors; it may be a view."""
        raise NotImplementedError

    def __str__(self) -> str:
        values = ", ".join(_shown(getattr(self, field.name)) for field in fields(self))
        return f"{self.name} {values}".rstrip()


def _shown(value: object) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class SizeOf:
    """The size of dimension `dim` of the node's input number `input`."""

    input: int
    dim: int

    def __str__(self) -> str:
        return f"size({self.input}, {self.dim})"


@dataclass(frozen=True)
class Reshape(Move):
    """Other sizes, in the order of the elements; one may be -1. Inputs after the first are there for their sizes."""

    name: ClassVar[str] = "reshape"
    sizes: tuple[int | SizeOf, ...]

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        inputs = (x, *others)
        given = [each if isinstance(each, int) else inputs[each.input].shape[each.dim] for each in self.sizes]
        return x.reshape(given)


@dataclass(frozen=True)
class Flatten(Move):
    """Dimensions `start` to `end`, both included, become one."""

    name: ClassVar[str] = "flatten"
    start: int = 0
    end: int = -1

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.flatten(self.start, self.end)


@dataclass(frozen=True)
class Permute(Move):
    """Dimensions in another order."""

    name: ClassVar[str] = "permute"
    dims: tuple[int, ...]

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.permute(self.dims)


@dataclass(frozen=True)
class Transpose(Move):
    """Two dimensions exchanged."""

    name: ClassVar[str] = "transpose"
    first: int
    second: int

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.transpose(self.first, self.second)


@dataclass(frozen=True)
class Contiguous(Move):
    """The same elements, laid out in the order of the dimensions."""

    name: ClassVar[str] = "contiguous"

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.contiguous()


@dataclass(frozen=True)
class Squeeze(Move):
    """Without dimension `dim`, if its size is 1."""

    name: ClassVar[str] = "squeeze"
    dim: int

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.squeeze(self.dim)


@dataclass(frozen=True)
class Unsqueeze(Move):
    """With a new dimension of size 1 at `dim`."""

    name: ClassVar[str] = "unsqueeze"
    dim: int

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.unsqueeze(self.dim)


@dataclass(frozen=True)
class Slice(Move):
    """Elements `start` up to `stop` (None: the end) of dimension `dim`, every `step`-th, as Python slices."""

    name: ClassVar[str] = "slice"
    dim: int
    start: int = 0
    stop: int | None = None
    step: int = 1

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x[(slice(None),) * (self.dim % x.ndim) + (slice(self.start, self.stop, self.step),)]


@dataclass(frozen=True)
class Select(Move):
    """Element `index` of dimension `dim`, which goes away."""

    name: ClassVar[str] = "select"
    dim: int
    index: int

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.select(self.dim, self.index)


@dataclass(frozen=True)
class Chunk(Move):
    """Piece `index` of dimension `dim` cut in at most `chunks`, as torch.chunk cuts."""

    name: ClassVar[str] = "chunk"
    chunks: int
    dim: int
    index: int

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.chunk(self.chunks, self.dim)[self.index]


@dataclass(frozen=True)
class Relabel(Move):
    """The same integers, whose QParams are now those of the output: a product with a positive number, say."""

    name: ClassVar[str] = "relabel"

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Remap(Move):
    """Each 8-bit integer replaced through a table, that of the lowest first; QParams are those of the output."""

    name: ClassVar[str] = "remap"
    table: tuple[int, ...]

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        table = torch.tensor(self.table, dtype=x.dtype)
        return table[x.int() - torch.iinfo(x.dtype).min]

    def __str__(self) -> str:
        return self.name
