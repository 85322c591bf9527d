"""Small converted models drawn at random: odd names, containers, buffers, arguments and outputs, in every mode."""

from __future__ import annotations

import random
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

import qcore

Pair = namedtuple("Pair", "first second")


@fx.wrap
def halved(x: torch.Tensor) -> torch.Tensor:
    """A function of the user's that no tracer goes into."""
    return x / 2 if x.numel() else x


ALLOW = (Pair, halved)
NAMES = (
    "layer",
    "block-0",
    "a b",
    "é",
    "0",
    "weight",
    "T",
    "print",
    "torch",
    "len",
    "scale",
    "x",
    "_inner",
    "shape",
    "in",
)
"""Names of layers; the last is a keyword, and is drawn where no graph calls it."""


@dataclass
class Drawn:
    """A converted model, what to call it with, and the float one where its code is needed to load it."""

    model: nn.Module
    inputs: tuple[Any, ...]
    factory: Callable[[], nn.Module] | None


OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, [y + 1]),
    "dict": lambda y: {"out": y, "more": {"half": halved(y)}},
    "numbered": lambda y: {0: y, 1: (y * 2,)},
    "ordered": lambda y: OrderedDict(b=y, a=y - 1),
    "named": lambda y: Pair(y, y.shape[0]),
    "mask": lambda y: (y > 0, y),
}


class Model(nn.Module):
    """Layers (batch, 4, 6, 6) -> (batch, 4, 6, 6), tensors of its own, and an argument for which a graph is made."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        chance = random.Random(seed)
        torch.manual_seed(seed)
        self.branches = chance.random() < 0.25
        self.layers = self._layers(chance)
        self.output = chance.choice(list(OUTPUTS))
        self.uses = {name for name in ("mask", "table", "shared", "tied", "attend", "keyword") if chance.random() < 0.4}
        self.register_buffer("mask", torch.rand(1, 4, 1, 1) > 0.3)
        self.register_buffer("table", torch.randn(1, 4, 1, 1), persistent=chance.random() < 0.5)
        self.gain = nn.Parameter(torch.rand(4, 1, 1) + 0.5, requires_grad=chance.random() < 0.5)
        first = next(iter(self.layers.children()))
        self.uses -= set() if type(first) is nn.Conv2d and not self.branches else {"shared"}
        if "shared" in self.uses:
            self.again = first
        if "tied" in self.uses:
            self.left, self.right = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.right.weight = self.left.weight

    def _layers(self, chance: random.Random) -> nn.Module:
        names = chance.sample(NAMES[:-1], chance.randint(1, 3))
        kinds = [
            lambda: nn.Conv2d(4, 4, 3, padding=1, groups=chance.choice((1, 2))),
            lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()),
            lambda: nn.Sequential(OrderedDict({"up-2": nn.ConvTranspose2d(4, 4, 2, 2), "pool": nn.MaxPool2d(2)})),
            lambda: nn.Sequential(nn.Linear(6, 6), nn.Hardswish()),
            lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6)),
        ]
        found = OrderedDict((name, chance.choice(kinds)()) for name in names)
        for layer in list(found.values()):
            for norm in layer.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.running_mean.uniform_(-1, 1)
        return nn.Sequential(found) if chance.random() < 0.5 else nn.ModuleDict(found)

    def forward(self, x, mode="plain", count=2):
        if self.branches and x.sum() > 1e9:  # which no tracer follows
            return x
        for layer in self.layers.values() if isinstance(self.layers, nn.ModuleDict) else [self.layers]:
            x = layer(x)
        if "shared" in self.uses:
            x = self.again(F.relu(x))
        if "tied" in self.uses:
            x = self.right(self.left(x))
        if "mask" in self.uses:
            x = x.masked_fill(~self.mask, 0.0)
        if "table" in self.uses:
            x = x * self.gain + self.table
        if "attend" in self.uses:
            x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return OUTPUTS[self.output](x if mode == "plain" else x * count)


class Halving(nn.Module):
    """Calls a function of the user's, and gives a class of the user's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return Pair(halved(self.layer(x)), x)


def drawn(seed: int, backend: str) -> Drawn:
    """The model of a seed, quantized statically, dynamically, or dynamically and compiled."""

    def make():
        return Model(seed).eval()

    chance = random.Random(-seed - 1)
    inputs = (torch.randn(2, 4, 6, 6), *chance.choice(((), ("plain",), ("times", 3))))
    mode = chance.choice(("static", "static", "dynamic", "compiled"))
    has_linear = any(type(module) is nn.Linear for module in make().modules())
    if mode == "static" or not has_linear:
        prepared = qcore.prepare(make(), example_inputs=inputs, backend=backend)
        prepared(*inputs)
        model = qcore.convert(prepared)
        needs_code = not isinstance(model, fx.GraphModule)
    else:
        model, needs_code = qcore.quantize_dynamic(make(), backend=backend), True
        if mode == "compiled" and not model.branches:
            model, needs_code = qcore.compile(model, inputs), False
    if chance.random() < 0.5:
        model.register_buffer("mine", torch.arange(3), persistent=chance.random() < 0.5)
    return Drawn(model, inputs, make if needs_code else None)
