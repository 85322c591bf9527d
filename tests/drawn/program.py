"""A drawn program: statements in the forward of one or several modules, its inputs and its result, and its text."""

from __future__ import annotations

import contextlib
import linecache
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

HEAD = """\
import math
import operator
from collections import OrderedDict, namedtuple

import torch
import torch.nn.functional as F
from torch import nn

Result = namedtuple("Result", "first second")
"""

TAIL = """\
def model():
    torch.manual_seed({seed})
    made = {name}()
    for module in made.modules():  # norms as training leaves them
        if "Norm" in type(module).__name__:
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if tensor.is_floating_point():
                    positive = "var" in name
                    tensor.data.copy_(torch.rand_like(tensor) + 0.5 if positive else 0.3 * torch.randn_like(tensor))
                    tensor.data.add_(1.0 if name == "weight" else 0.0)
    return made.eval(){dtype}


def inputs(batch, length, seed=0):
    g = torch.Generator().manual_seed(1000 * {seed} + seed)
    return ({inputs},)
"""


@dataclass(frozen=True)
class Statement:
    """Lines of __init__ and of forward that belong together."""

    layers: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """A module class: its name, the parameters of forward, its statements and what it returns."""

    name: str
    parameters: tuple[str, ...]
    statements: tuple[Statement, ...]
    result: str

    def text(self) -> str:
        layers = [line for each in self.statements for line in each.layers]
        lines = [line for each in self.statements for part in each.lines for line in part.split("\n")]
        return "\n".join(
            [
                f"class {self.name}(nn.Module):",
                "    def __init__(self):",
                "        super().__init__()",
                *("        " + line for line in layers),
                "",
                f"    def forward({', '.join(['self', *self.parameters])}):",
                *("        " + line for line in lines),
                f"        return {self.result}",
            ]
        )


@dataclass(frozen=True)
class Program:
    """`scopes`: modules, the model last; `inputs`: an expression of batch, length and g for each argument;
    `sizes`: (batch, length) of the calls, the example first; `is_sequential`: values follow one another without
    functions, as eager mode takes them; `dtype`: of the whole model."""

    seed: int
    scopes: tuple[Scope, ...]
    inputs: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    is_sequential: bool = False
    dtype: str = ""
    counted: dict[str, int] = field(default_factory=dict, compare=False)
    """How many operations of each kind were drawn."""

    def text(self) -> str:
        classes = [scope.text() for scope in self.scopes]
        tail = TAIL.format(seed=self.seed, name=self.scopes[-1].name, inputs=", ".join(self.inputs), dtype=self.dtype)
        return "\n\n\n".join([HEAD.rstrip(), *classes, tail])

    def with_scope(self, index: int, scope: Scope) -> Program:
        scopes = list(self.scopes)
        scopes[index] = scope
        return replace(self, scopes=tuple(scopes))


def spared(program: Program) -> Any:
    """The program as a module, without the flags that tell its layers to work in place."""
    module = types.ModuleType("spared")
    exec(program.text().replace("inplace=True", "inplace=False"), vars(module))
    return module


@contextlib.contextmanager
def made(program: Program) -> Iterator[Any]:
    """The program as a module that can be imported, so that its classes pickle and its source is found."""
    name = f"drawn_{program.seed}"
    text, file = program.text(), f"<drawn {program.seed}>"
    module = types.ModuleType(name)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec"), vars(module))
        yield module
    finally:
        sys.modules.pop(name, None)
        linecache.cache.pop(file, None)
