"""Draws statements one after the other; what fits is found by running each at several sizes at once."""

from __future__ import annotations

import copy
import math
import operator
import random
import re
import warnings
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.drawn.program import Scope, Statement

LARGEST = 4096
"""Elements of a value at the largest size."""

Result = namedtuple("Result", "first second")


class Discard(Exception):
    """What was begun does not fit here."""


class Drawer:
    """One scope while it is drawn.

    A dimension is free where the sizes give it different lengths; a statement that would only fit one of the sizes
    fails at the others and is taken back.
    """

    def __init__(self, rng: random.Random, runs: list[dict[str, Any]], classes: dict[str, Any], depth: int = 0) -> None:
        self.rng, self.runs, self.depth = rng, runs, depth
        self.classes = classes
        self.globals = {
            "torch": torch, "nn": nn, "F": F, "math": math, "operator": operator, "OrderedDict": OrderedDict,
            "Result": Result, **classes,
        }  # fmt: skip
        self.host = nn.Module()
        self.scopes: list[Scope] = []
        self.statements: list[Statement] = []
        self.exposed = list(runs[0])
        self.used: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.numbers = 0
        self.has_containers = True
        self.containers: set[str] = set()
        self.shared: list[tuple[str, str]] = []
        self._begin()

    # values

    def get(self, name: str, run: int = 0) -> Any:
        return self.runs[run][name]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.get(name).shape)

    def least(self, name: str, dim: int) -> int:
        """The smallest length of a dimension over all sizes."""
        return min(run[name].shape[dim] for run in self.runs)

    def fixed(self, name: str, dim: int) -> bool:
        return len({run[name].shape[dim] for run in self.runs}) == 1

    def length(self, name: str, dim: int) -> int:
        """The length of a fixed dimension; Discard for a free one."""
        if not self.fixed(name, dim):
            raise Discard
        return self.shape(name)[dim]

    def size(self, name: str, dim: int) -> str:
        """Code for a length: a number where it is fixed, or else read from the value."""
        if self.fixed(name, dim) and self.rng.random() < 0.7:
            return str(self.shape(name)[dim])
        return self.rng.choice([f"{name}.shape[{dim}]", f"{name}.size({dim})", f"{name}.size(dim={dim})"])

    def floats(self, rank: int | tuple[int, ...] | None = None, where: Callable[[str], bool] | None = None) -> str:
        """A float32 value, mostly a late one or one that nothing read yet; Discard where none fits."""
        ranks = (rank,) if isinstance(rank, int) else rank
        found = [
            name for name in self.exposed
            if isinstance(self.get(name), Tensor) and self.get(name).dtype is torch.float32
            and (ranks is None or self.get(name).ndim in ranks) and (where is None or where(name))
        ]  # fmt: skip
        return self._one(found)

    def indices(self, rank: int | tuple[int, ...] | None = None) -> str:
        ranks = (rank,) if isinstance(rank, int) else rank
        found = [
            name for name in self.exposed
            if isinstance(self.get(name), Tensor) and self.get(name).dtype is torch.int64
            and (ranks is None or self.get(name).ndim in ranks) and all(int(run[name].min()) >= 0 for run in self.runs)
        ]  # fmt: skip
        return self._one(found)

    def masks(self, where: Callable[[str], bool]) -> str:
        found = [
            name for name in self.exposed
            if isinstance(self.get(name), Tensor) and self.get(name).dtype is torch.bool and where(name)
        ]  # fmt: skip
        return self._one(found)

    def plain(self, kind: type) -> str:
        return self._one([name for name in self.exposed if type(self.get(name)) is kind])

    def same(self, name: str) -> str:
        """Another float of the same shape at all sizes."""
        return self.floats(where=lambda other: other != name and self._alike(name, other))

    def fits(self, name: str) -> str:
        """A float that broadcasts to this one."""

        def broadcasts(other: str) -> bool:
            try:
                return other != name and all(
                    torch.broadcast_shapes(run[name].shape, run[other].shape) == run[name].shape for run in self.runs
                )
            except RuntimeError:
                return False

        return self.floats(where=broadcasts)

    def _alike(self, name: str, other: str) -> bool:
        return all(run[name].shape == run[other].shape for run in self.runs)

    def _one(self, found: list[str]) -> str:
        if not found:
            raise Discard
        unread = [name for name in found if not self.used[name]]
        if unread and self.rng.random() < 0.6:
            found = unread
        late = found[-3:] if self.rng.random() < 0.7 else found
        name = self.rng.choice(late)
        self.reads.append(name)
        return name

    # statements

    def _begin(self) -> None:
        self.layers: list[str] = []
        self.lines: list[str] = []
        self.reads: list[str] = []
        self.fresh: list[str] = []

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def init(self, line: str) -> None:
        """A line of __init__."""
        self.layers.append(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(line, self.globals, {"self": self.host})

    def line(self, line: str) -> None:
        """A line of forward."""
        self.lines.append(line)
        for run in self.runs:
            local = {**run, "self": self.host.eval()}
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(line, self.globals, local)
            local.pop("self")
            run.update(local)

    def new(self, expression: str, expose: bool = True, name: str = "") -> str:
        """A value, computed at all sizes; its name."""
        name = name or f"v{self.number()}"
        self.line(f"{name} = {expression}")
        if expose:
            self.expose(name)
        return name

    def expose(self, *names: str) -> None:
        """Let later statements, and the result, read these values."""
        self.fresh.extend(names)

    def layer(self, code: str) -> str:
        """The expression for a layer: an attribute, or an item of a container of this scope."""
        number, roll = self.number(), self.rng.random()
        if roll < 0.75 or not self.has_containers:
            name = self.rng.choice(["layer", "conv", "fc", "Block", "_hidden", "norm", "in_proj"]) + str(number)
            self.init(f"self.{name} = {code}")
            return f"self.{name}"
        kind = "parts" if roll < 0.88 else "named"
        if kind not in self.containers:
            self.containers.add(kind)
            self.init(f"self.{kind} = {'nn.ModuleList()' if kind == 'parts' else 'nn.ModuleDict()'}")
        if kind == "parts":
            index = len(self.host.parts)
            self.init(f"self.parts.append({code})")
            return f"self.parts[{index}]"
        key = self.rng.choice(["block-{}", "a b {}", "{}", "class{}", "für{}", "x_{}", "layer/{}", "1-{}"]).format(
            number
        )
        self.init(f"self.named[{key!r}] = {code}")
        return f"self.named[{key!r}]"

    def chosen(self, codes: list[str]) -> str:
        """One of several expressions; what stands between @ in it is made a layer."""
        return re.sub("@(.*?)@", lambda found: self.layer(found[1]), self.rng.choice(codes))

    def parameter(self, *shape: int, scale: float = 1.0) -> str:
        name = f"weight{self.number()}"
        numbers = ", ".join(map(str, shape))
        self.init(f"self.{name} = nn.Parameter(torch.randn({numbers}) * {scale:.3g})")
        return f"self.{name}"

    def buffer(self, code: str, persistent: bool = True) -> str:
        name = f"buffer{self.number()}"
        extra = "" if persistent else ", persistent=False"
        self.init(f'self.register_buffer("{name}", {code}{extra})')
        return f"self.{name}"

    def draw(self, operation: Callable[[Drawer], None], fits: Callable[[list[str]], bool] = lambda lines: True) -> bool:
        """Draw one operation; False where it, or its lines, do not fit, and nothing of it is kept."""
        kept = len(self.scopes), set(self.containers), list(self.shared)
        modules = {kind: len(getattr(self.host, kind)) for kind in self.containers if kind == "parts"}
        runs = copy.deepcopy(self.runs)  # writes in place go too
        self._begin()
        try:
            operation(self)
            for name in self.fresh:
                self._check(name)
            if not fits(self.lines):
                raise Discard
        except (Discard, RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError, KeyError,
                AttributeError) as error:  # fmt: skip
            if not isinstance(error, Discard):
                self.counted["error " + operation.__name__] += 1
            self.scopes = self.scopes[: kept[0]]
            for kind in self.containers - kept[1]:
                delattr(self.host, kind)
            self.containers, self.shared = kept[1:]
            for kind, length in modules.items():
                del getattr(self.host, kind)[length:]
            self.runs[:] = runs
            return False
        self.statements.append(Statement(tuple(self.layers), tuple(self.lines)))
        self.used.update(self.reads)
        self.exposed.extend(name for name in self.fresh if name not in self.exposed)
        self.counted[operation.__name__] += 1
        return True

    def _check(self, name: str) -> None:
        for run in self.runs:
            value = run[name]
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if value.numel() > LARGEST or not value.numel() or value.ndim > 6:
                raise Discard
            found = value.float()
            if not torch.isfinite(found).all() or found.abs().max() > 1e3 or found.abs().max() < 1e-3:
                raise Discard
