"""Drawn graphs of moves, arithmetic, joins, pools and layers whose values are read at random, with their results."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import qcore
from qcore import operators as ops
from qcore.graph import moves
from qcore.graph.execute import Interpreter
from qcore.graph.ir import Graph, Node, Value
from qcore.tensor.dtypes import qint8
from qcore.tensor.qparams import QParams, per_tensor

REFERENCE = qcore.registry.get("reference")
SAME = (*moves.Move.__subclasses__(), ops.Clamp, ops.MaxPool, ops.AvgPool, ops.AdaptiveAvgPool, ops.Mean)
"""Operators whose results have the QParams of their first input."""


class Drawing:
    """A graph that grows node by node; `results`: what the reference gives for each value."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.torch = torch.Generator().manual_seed(seed)
        self.results: dict[str, Tensor] = {}
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.inputs = tuple(self._input() for _ in range(self.random.randint(1, 2)))
        for _ in range(self.random.randint(2, 12)):
            getattr(self, self.random.choice(DRAWS))()
        outputs = [self.values[-1], *self.random.choices(self.values, k=self.random.randint(0, 3))]
        self.graph = Graph(self.inputs, tuple(self.nodes), tuple(outputs))

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        return tuple(self.results[value.name] for value in self.inputs)

    @property
    def expected(self) -> tuple[Tensor, ...]:
        return tuple(self.results[value.name] for value in self.graph.outputs)

    def other_arguments(self, seed: int) -> tuple[Tensor, ...]:
        """Other inputs of the same sizes and strides."""
        generator = torch.Generator().manual_seed(seed)
        fresh = [_filled(x, generator) for x in self.arguments]
        return tuple(fresh)

    # --- what it is made of -------------------------------------------------------------------------------------

    def _qparams(self) -> QParams:
        return QParams(qcore.quint8, self.random.choice((0.02, 0.05, 0.3)), self.random.choice((0, 3, 128, 255)))

    def _add(self, value: Value, result: Tensor) -> Value:
        self.values.append(value)
        self.results[value.name] = result
        return value

    def _input(self) -> Value:
        sizes = self.random.choice((1, 2)), self.random.choice((1, 3, 4, 16)), *self.random.choice(IMAGES)
        x = torch.randint(0, 256, sizes, dtype=torch.uint8, generator=self.torch)
        layout = self.random.randrange(4)
        if layout == 1:
            x = x.to(memory_format=torch.channels_last)
        elif layout == 2:
            x = x.repeat(1, 1, 2, 1)[:, :, ::2]
        elif layout == 3:
            x = x[:, :, :1].expand(sizes)
        return self._add(Value(f"v{len(self.values)}", self._qparams()), x)

    def _node(self, operator: Any, inputs: tuple[Value, ...], out: QParams | None) -> None:
        value = Value(f"v{len(self.values)}", inputs[0].qparams if isinstance(operator, SAME) else out)
        node = Node(operator, inputs, (value,), f"node{len(self.nodes)}")
        try:
            (result,) = Interpreter(Graph(tuple(dict.fromkeys(inputs)), (node,), (value,)), REFERENCE.build)(
                *(self.results[each.name] for each in dict.fromkeys(inputs))
            )
        except (RuntimeError, IndexError, qcore.ArgumentError):
            return  # it does not fit these sizes
        self.nodes.append(node)
        self._add(value, result)

    def _value(self, suits: Callable[[Tensor], bool] = lambda x: True, integers: bool = True) -> Value | None:
        found = [v for v in self.values if (v.qparams is not None) is integers and suits(self.results[v.name])]
        recent = found[-3:] if found and self.random.random() < 0.6 else found
        return self.random.choice(recent) if recent else None

    # --- nodes --------------------------------------------------------------------------------------------------

    def move(self) -> None:
        x = self._value()
        assert x is not None
        rank = self.results[x.name].ndim
        axis = self.random.randint(-rank, rank - 1) if rank else 0
        other = self.random.randint(-rank, rank - 1) if rank else 0
        index = self.random.randint(0, 1)
        dims = tuple(self.random.sample(range(rank), rank))
        window = (
            self.random.choice((0, 0, 1, -1)),
            self.random.choice((None, 1, 1, 2, -1)),
            self.random.choice((1, 1, 2)),
        )
        move = self.random.choice(
            (
                moves.Permute(dims),
                moves.Transpose(axis, other),
                moves.Slice(axis, *window),
                moves.Slice(axis, *window),
                moves.Chunk(2, axis, index),
                moves.Select(axis, 0),
                moves.Unsqueeze(axis),
                moves.Squeeze(axis),
                moves.Flatten(
                    min(axis % max(rank, 1), other % max(rank, 1)), max(axis % max(rank, 1), other % max(rank, 1))
                ),
                moves.Reshape((-1, *self.results[x.name].shape[1:])),
                moves.Reshape((moves.SizeOf(0, 0), -1, 1, 1)),
                moves.Contiguous(),
                moves.Relabel(),
                moves.Remap(tuple(reversed(range(256)))),
            )
        )
        self._node(move, (x,), None)

    def gate(self) -> None:
        """A value with a piece of itself, so small that it broadcasts."""
        x = self._value(lambda x: x.ndim == 4 and 0 not in x.shape)
        if x is None:
            return
        piece = x
        for dim in self.random.choice(((2, 3), (2,), (3,), (1,), (0,), (1, 2, 3))):
            self._node(moves.Slice(dim, *self.random.choice(((0, 1), (-1, None)))), (piece,), None)
            piece = self.values[-1]
        pair = (x, piece) if self.random.random() < 0.7 else (piece, x)
        self._node(self.random.choice((ops.Mul(), ops.Add())), pair, self._qparams())

    def binary(self) -> None:
        a = self._value()
        assert a is not None
        sizes = self.results[a.name].shape
        b = self._value(lambda x: all(m == n or 1 in (m, n) for m, n in zip(x.shape[::-1], sizes[::-1], strict=False)))
        assert b is not None
        self._node(self.random.choice((ops.Add, ops.Mul))(self.random.random() < 0.3), (a, b), self._qparams())

    def one(self) -> None:
        x = self._value()
        assert x is not None
        operator = self.random.choice(
            (ops.Clamp(-1.0, 2.0), ops.Clamp(0.0), ops.Lookup("tanh"), ops.Lookup("hardswish"))
        )
        self._node(operator, (x,), self._qparams())

    def cat(self) -> None:
        a = self._value(lambda x: x.ndim > 0)
        if a is None:
            return
        dim = self.random.randrange(self.results[a.name].ndim)

        def fits(x: Tensor) -> bool:
            own = self.results[a.name].shape
            return x.ndim == len(own) and all(x.shape[d] == own[d] for d in range(x.ndim) if d != dim)

        others = [self._value(fits) or a for _ in range(self.random.randint(1, 2))]
        self._node(ops.Cat(dim), (a, *others), self._qparams())

    def pool(self) -> None:
        x = self._value(lambda x: x.ndim == 4)
        if x is None:
            return
        size, step = self.random.choice(((2, 1), (3, 1), (2, 2), (3, 2)))
        pad = (size // 2, size // 2)
        operator = self.random.choice(
            (
                ops.MaxPool((size, size), (step, step), pad),
                ops.AvgPool((size, size), (step, step), pad),
                ops.AdaptiveAvgPool((1, 1)),
                ops.AdaptiveAvgPool((2, 3)),
                ops.Mean((2, 3), self.random.random() < 0.5),
                ops.Mean((self.random.randrange(4),), True),
            )
        )
        self._node(operator, (x,), None)

    def _weight(self, *sizes: int) -> tuple[Tensor, QParams, Tensor]:
        weight = torch.randint(-128, 128, sizes, dtype=torch.int8, generator=self.torch)
        return weight, per_tensor(0.01, 0, qint8), torch.randn(sizes[0], generator=self.torch)

    def conv(self) -> None:
        x = self._value(lambda x: x.ndim == 4 and 0 not in x.shape)
        if x is None:
            return
        channels = self.results[x.name].shape[1]
        size, step = self.random.choice(((1, 1), (3, 1), (3, 2)))
        groups = self.random.choice((1, channels))
        weight = self._weight(
            channels if groups > 1 else self.random.choice((channels, 5)), channels // groups, size, size
        )
        operator = ops.Conv(*weight, self.random.random() < 0.3, (step, step), (size // 2, size // 2), (1, 1), groups)
        self._node(operator, (x,), self._qparams())
        if self.random.random() < 0.5:  # a sum, which may join the step
            self._node(ops.Add(), (self.values[-1], x), self._qparams())

    def linear(self) -> None:
        x = self._value(lambda x: x.ndim > 0 and x.shape[-1] > 0)
        if x is None:
            return
        features = self.results[x.name].shape[-1]
        self._node(ops.Linear(*self._weight(self.random.choice((features, 7)), features)), (x,), self._qparams())

    def floats(self) -> None:
        """Into floats, something there, and back."""
        x = self._value()
        assert x is not None
        self._node(ops.Dequantize(), (x,), None)
        for _ in range(self.random.randint(0, 3)):
            y = self._value(integers=False)
            if y is None:
                return
            sizes = self.results[y.name].shape
            other = self._value(lambda x, sizes=sizes: x.shape == sizes, integers=False)
            assert other is not None
            features = sizes[-1] if sizes else 0
            kind = self.random.randrange(4)
            if kind == 0:
                self._node(ops.FloatAdd(), (y, other), None)
            elif kind == 1:
                self._node(ops.FloatFunction(self.random.choice(("relu", "gelu"))), (y,), None)
            elif kind == 2 and features:
                self._node(
                    ops.LinearDynamic(*self._weight(6, features), per_row=self.random.random() < 0.5), (y,), None
                )
            else:
                self._node(moves.Unsqueeze(0), (y,), None)
        y = self._value(integers=False)
        if y is not None:
            self._node(ops.Quantize(), (y,), self._qparams())


DRAWS = ["move", "move", "move", "gate", "binary", "binary", "one", "cat", "pool", "conv", "linear", "floats"]
IMAGES = ((1, 1), (1, 3), (2, 2), (4, 4), (5, 3))


def _filled(x: Tensor, generator: torch.Generator) -> Tensor:
    fresh = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    storage = fresh.as_strided((fresh.untyped_storage().nbytes(),), (1,))
    storage.copy_(torch.randint(0, 256, storage.shape, dtype=torch.uint8, generator=generator))
    return fresh
