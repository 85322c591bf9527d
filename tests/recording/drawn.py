"""Quantized parts of models, drawn: every kind of module and function, each with arguments of every form.

A part takes plain tensors and gives plain tensors. Its inputs lie on the steps that they are quantized in, so that what
rounds differently may differ in the operator alone, and come in two sizes: as recorded, and others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcore
from qcore.api import qconfig as qconfigs
from qcore.api.observer import MinMaxObserver

SCALE = 0.05


@dataclass(frozen=True)
class Part:
    """A quantized module, what it is recorded with, and what else it is called with."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    others: tuple[Tensor, ...]

    def free(self) -> tuple[dict[int, Any], ...]:
        """Of each input, the dimensions in which both differ, as torch.export takes them."""
        pairs = zip(self.inputs, self.others, strict=True)
        return tuple(
            {dim: torch.export.Dim.DYNAMIC for dim in range(a.ndim) if a.shape[dim] != b.shape[dim]} for a, b in pairs
        )


class Call(nn.Module):
    """A module of its own, then a function; the function is called with what the module gives."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.module(*inputs))


class Given(nn.Module):
    """A recurrent layer in each of the ways that its states may be given."""

    def __init__(self, layer: nn.Module, how: str, two: bool) -> None:
        super().__init__()
        self.layer, self.how, self.two = layer, how, two

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        if not states:
            return self.layer(x)
        if not self.two:
            return self.layer(x, states[0])
        return self.layer(x, (states[0], states[0]) if self.how == "shared" else states)


def on_steps(*shape: int) -> Tensor:
    """Numbers that quantize without rounding, the least and the greatest among them."""
    x = torch.randint(-128, 128, shape)
    x.view(-1)[0], x.view(-1)[-1] = -128, 127
    return x * SCALE


def static(random: Random, module: nn.Module, graph: bool, *x: Tensor) -> nn.Module:
    """Quantized, on the graph or between stubs."""
    weight = random.choice([qconfigs.default_weight_observer, qconfigs.default_per_channel_weight_observer])
    qconfig = qcore.QConfig(MinMaxObserver.with_args(dtype=qcore.quint8), weight)
    whole: Any = module if graph else nn.Sequential(qcore.QuantStub(), module, qcore.DeQuantStub())
    mapping = qcore.QConfigMapping().set_global(qconfig)
    if graph:
        prepared = qcore.prepare_fx(whole.eval(), mapping, x)
    else:
        whole.eval().qconfig = qconfig
        prepared = qcore.prepare(whole)
    prepared(*x)
    return qcore.convert_fx(prepared) if graph else qcore.convert(prepared)


def _sides(random: Random, rank: int) -> list[int]:
    return [random.randint(5, 8) for _ in range(rank)]


def _conv(random: Random) -> tuple[nn.Module, list[int]]:
    rank, groups = random.randint(1, 3), random.choice([1, 2])
    kernel = [random.randint(1, 4) for _ in range(rank)]
    mode = random.choice(["zeros", "reflect", "replicate", "circular"])
    padding: Any = random.choice(["same", "valid", [random.randint(0, min(2, k)) for k in kernel]])
    stride = 1 if padding == "same" else random.randint(1, 2)
    if padding != "same":
        padding = (
            padding
            if padding == "valid" or mode != "zeros"
            else [min(p, k // 2) for p, k in zip(padding, kernel, strict=True)]
        )
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    dilation = 1 if mode != "zeros" or max(kernel) > 3 else random.choice([1, 2])
    options: Any = {"dilation": dilation, "groups": groups, "bias": random.random() < 0.7, "padding_mode": mode}
    return kind(4, 6, kernel, stride, padding, **options), [4, *_sides(random, rank)]


def _transposed(random: Random) -> tuple[nn.Module, list[int]]:
    rank, groups = random.randint(1, 3), random.choice([1, 2])
    stride = [random.randint(1, 2) for _ in range(rank)]
    extra = [random.randint(0, s - 1) for s in stride]
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    options: Any = {"groups": groups, "bias": random.random() < 0.7, "dilation": random.choice([1, 2])}
    return kind(4, 6, 3, stride, random.randint(0, 1), extra, **options), [4, *_sides(random, rank)]


def _pool(random: Random) -> tuple[nn.Module, list[int]]:
    rank, kernel = random.randint(1, 3), random.randint(2, 3)
    stride, padding, ceil = random.choice([None, 1, 2]), random.randint(0, 1), random.random() < 0.5
    names: dict[str, Callable[[], nn.Module]] = {
        "Max": lambda: getattr(nn, f"MaxPool{rank}d")(kernel, stride, padding, random.randint(1, 2), ceil_mode=ceil),
        "Avg": lambda: getattr(nn, f"AvgPool{rank}d")(
            kernel, stride, padding, ceil, random.random() < 0.5,
            **({"divisor_override": random.choice([None, 3])} if rank > 1 else {}),
        ),
        "Adaptive": lambda: getattr(nn, f"AdaptiveAvgPool{rank}d")(random.choice([1, 2, 3])),
    }  # fmt: skip
    return names[random.choice(list(names))](), [4, *_sides(random, rank)]


def _norm(random: Random) -> tuple[nn.Module, list[int]]:
    rank, affine = random.randint(1, 3), random.random() < 0.5
    sides = _sides(random, rank)
    made: list[nn.Module] = [
        nn.LayerNorm(sides, eps=random.choice([1e-5, 0.1]), elementwise_affine=affine),
        nn.GroupNorm(2, 4, affine=affine),
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[rank - 1](4, affine=affine),
    ]
    if rank > 1:
        norm: Any = (nn.BatchNorm2d, nn.BatchNorm3d)[rank - 2](4, affine=affine)
        nn.init.normal_(norm.running_mean)
        made.append(norm)
    return random.choice(made), [4, *sides]


def _pointwise(random: Random) -> tuple[nn.Module, list[int]]:
    made: list[nn.Module] = [
        nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-1, 2), nn.Sigmoid(), nn.Tanh(), nn.ELU(0.5), nn.LeakyReLU(0.3), nn.PReLU(),
        nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(),
    ]  # fmt: skip
    return nn.Sequential(nn.Linear(5, 5), random.choice(made)), [3, 5]


FUNCTIONS: list[tuple[str, Callable[[Any], Any]]] = [
    ("mean of one", lambda x: x.mean(-1)),
    ("mean of two, kept", lambda x: torch.mean(x, (-2, -1), keepdim=True)),
    ("flatten", lambda x: x.flatten(1)),
    ("flatten from the end", lambda x: torch.flatten(x, -2)),
    ("view", lambda x: x.view(x.shape[0], -1)),
    ("reshape", lambda x: x.reshape(-1, 6, 5)),
    ("permute", lambda x: x.permute(0, -1, 1, 2)),
    ("transpose", lambda x: x.transpose(-1, -2)),
    ("chunks", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    ("split", lambda x: x.split([1, 3], dim=-3)[1]),
    ("slice", lambda x: x[:, 1:, ..., ::2]),
    ("select", lambda x: x[:, -1]),
    ("unsqueeze", lambda x: x.unsqueeze(-1)),
    ("cat with itself", lambda x: torch.cat([x, x], -1)),
    ("stack", lambda x: torch.stack([x, x], 1)),
    ("nearest", lambda x: F.interpolate(x, scale_factor=2)),
    ("nearest to a size", lambda x: F.interpolate(x, size=(7, 9))),
    ("bilinear", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)),
    ("bilinear to the corners", lambda x: F.interpolate(x, size=(9, 4), mode="bilinear", align_corners=True)),
    ("pad", lambda x: F.pad(x, (1, 0, 2, 1))),
    ("reflected", lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect")),
    ("softmax", lambda x: torch.softmax(x, 1)),
    ("clamp", lambda x: torch.clamp(x, -0.5, 1.0)),
    ("relu", lambda x: F.relu(x)),
    ("flip", lambda x: x.flip(-1)),
    ("roll", lambda x: torch.roll(x, 1, -1)),
    ("pixel shuffle", lambda x: F.pixel_shuffle(x, 2)),
    ("squeeze", lambda x: x[:, :1].squeeze(1)),
    ("the same twice", lambda x: (x, x)),
    ("a dict", lambda x: {"a": x, "b": x.mean((2, 3))}),
]
"""Of (batch, 4, 6, 5)."""
OF_SEVERAL = ("the same twice", "a dict")
"""These give several values, which a DeQuantStub does not take."""


def _function(random: Random) -> tuple[str, nn.Module, list[int]]:
    name, function = random.choice(FUNCTIONS)
    return name, Call(nn.ReLU(), function), [4, 6, 5]


STATIC: dict[str, Callable[[Random], tuple[nn.Module, list[int]]]] = {
    "conv": _conv,
    "transposed": _transposed,
    "pool": _pool,
    "norm": _norm,
    "pointwise": _pointwise,
}


def static_part(random: Random, kind: str) -> Part:
    """One operator between integers, with a free batch."""
    if kind == "function":
        name, module, shape = _function(random)
    else:
        module, shape = STATIC[kind](random)
        name = str(module).replace("\n", "")
    example, other = on_steps(2, *shape), on_steps(5, *shape)
    graph = random.random() < 0.5 or name in OF_SEVERAL
    whole = static(random, module, graph, torch.cat([example, other]))
    return Part(f"{kind}: {name}", whole, (example,), (other,))


def dynamic_part(random: Random, kind: str) -> Part:
    """One layer on floats, with a free batch, and time where it has one."""
    bias = random.random() < 0.7
    if kind == "linear":
        layer: nn.Module = nn.Linear(5, 4, bias)
        shapes, others = [(2, 3, 5)], [(4, 6, 5)]
    elif kind == "cell":
        cell = random.choice([nn.LSTMCell, nn.GRUCell, nn.RNNCell])
        states = random.choice([0, 2 if cell is nn.LSTMCell else 1])
        how = random.choice(["shared", "apart"])
        states = 1 if states and how == "shared" else states
        layer = Given(cell(5, 4, bias), how, cell is nn.LSTMCell)
        shapes, others = [(2, 5), *[(2, 4)] * states], [(3, 5), *[(3, 4)] * states]
    else:
        kind_of = random.choice([nn.LSTM, nn.GRU])
        first, both, layers = random.random() < 0.5, random.random() < 0.5, random.choice([1, 2])
        states = random.choice([0, 2 if kind_of is nn.LSTM else 1])
        how = random.choice(["shared", "apart"])
        states = 1 if states and how == "shared" else states
        inner = kind_of(5, 4, layers, bias, first, bidirectional=both)
        layer = Given(inner, how, kind_of is nn.LSTM)
        cells = layers * (2 if both else 1)
        shapes = [(2, 3, 5), *[(cells, 2 if first else 3, 4)] * states]
        others = [(4, 6, 5), *[(cells, 4 if first else 6, 4)] * states]
    dtype = random.choice([qcore.qint8, torch.float16])
    whole = qcore.quantize_dynamic(nn.Sequential(layer)[0] if kind != "linear" else nn.Sequential(layer), dtype=dtype)
    sample = tuple(map(torch.randn, shapes)), tuple(3 * torch.randn(each) for each in others)
    return Part(f"{kind}: {layer}".replace("\n", ""), whole.eval(), *sample)


KINDS = ("conv", "conv", "transposed", "pool", "norm", "pointwise", "function", "function", "linear", "cell", "layers")


def part(seed: int) -> Part:
    """The part of a seed."""
    random = Random(seed)
    torch.manual_seed(seed)
    kind = KINDS[seed % len(KINDS)]
    return dynamic_part(random, kind) if kind in ("linear", "cell", "layers") else static_part(random, kind)
