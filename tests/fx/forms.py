"""Each operator that graph mode quantizes, in all ways to write it: as a module, a function, a method, an operator."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGES, SEQUENCES, VOLUMES, ROWS, LINES = (2, 6, 8, 8), (3, 5, 6), (2, 4, 4, 6, 6), (4, 6), (2, 4, 9)


@dataclass(frozen=True)
class Forms:
    """Ways to write one operator on an input of a shape (empty: indices): makers of modules, and functions of the
    input, with the parameters of the first form by name."""

    shape: tuple[int, ...]
    forms: tuple[Any, ...]


def _weights(function: Callable[..., Tensor], *options: Any, **named: Any) -> Callable[..., Tensor]:
    return lambda x, weight, bias: function(x, weight, bias, *options, **named)


def _swapped(pieces: Any) -> Tensor:
    one, other = pieces
    return torch.cat([other, one], 1)


def _stacked(pieces: Any) -> Tensor:
    one, two, three, four = pieces
    return torch.stack([four, three, two, one])


def _method(name: str, *args: Any, **kwargs: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: getattr(x, name)(*args, **kwargs)


def _norm(function: Callable[..., Tensor], *options: Any) -> Callable[..., Tensor]:
    return lambda x, weight, bias: function(x, *options, weight, bias)


def _convs(rank: int, shape: tuple[int, ...]) -> dict[str, Forms]:
    kind, function = getattr(nn, f"Conv{rank}d"), getattr(F, f"conv{rank}d")
    back, transposed = getattr(nn, f"ConvTranspose{rank}d"), getattr(F, f"conv_transpose{rank}d")
    torchs = getattr(torch, f"conv{rank}d")
    channels = shape[1]
    return {
        f"conv{rank}d": Forms(
            shape,
            (
                partial(kind, channels, 4, 3, stride=2, padding=1),
                _weights(function, 2, 1),
                _weights(torchs, 2, 1),
                _weights(function, stride=2, padding=1),
            ),
        ),
        f"conv_transpose{rank}d": Forms(
            shape, (partial(back, channels, 4, 3, stride=2, padding=1), _weights(transposed, 2, 1))
        ),
    }


def _pools(rank: int, shape: tuple[int, ...]) -> dict[str, Forms]:
    found = {}
    for name, args in (("max_pool", (3, 2, 1)), ("avg_pool", (2,)), ("adaptive_avg_pool", (2,))):
        function = getattr(F, f"{name}{rank}d")
        kind = getattr(nn, f"{name.title().replace('_', '')}{rank}d")
        also = getattr(torch, f"{name}{rank}d", None)
        functions = [function, also] if also is not None else [function]
        if also is not None and name == "adaptive_avg_pool":
            functions = [function]
        calls = [lambda x, call=call, args=args: call(x, *args) for call in functions]
        found[f"{name}{rank}d"] = Forms(shape, (partial(kind, *args), *calls))
    return found


def _simple(shape: tuple[int, ...], *forms: Any) -> Forms:
    return Forms(shape, forms)


ACTIVATIONS: dict[str, Forms] = {
    "relu": _simple(
        IMAGES, nn.ReLU, F.relu, torch.relu, _method("relu"), _method("relu_"), lambda x: F.relu(x, inplace=True)
    ),
    "relu6": _simple(
        IMAGES, nn.ReLU6, F.relu6, partial(nn.Hardtanh, 0, 6), lambda x: torch.clamp(x, 0, 6),
        _method("clamp", 0.0, 6.0),
    ),
    "hardtanh": _simple(
        IMAGES, partial(nn.Hardtanh, -0.5, 1), lambda x: F.hardtanh(x, -0.5, 1.0), _method("clamp", min=-0.5, max=1.0)
    ),
    "hardswish": _simple(IMAGES, nn.Hardswish, F.hardswish),
    "hardsigmoid": _simple(IMAGES, nn.Hardsigmoid, F.hardsigmoid),
    "sigmoid": _simple(IMAGES, nn.Sigmoid, torch.sigmoid, F.sigmoid, _method("sigmoid"), torch.special.expit),
    "tanh": _simple(IMAGES, nn.Tanh, torch.tanh, F.tanh, _method("tanh")),
    "elu": _simple(IMAGES, partial(nn.ELU, 0.7), lambda x: F.elu(x, 0.7), lambda x: F.elu_(x, alpha=0.7)),
    "leaky_relu": _simple(
        IMAGES, partial(nn.LeakyReLU, 0.2), lambda x: F.leaky_relu(x, 0.2), lambda x: F.leaky_relu_(x, 0.2)
    ),
    "prelu": _simple(
        IMAGES, partial(nn.PReLU, 6), lambda x, weight: F.prelu(x, weight), lambda x, weight: torch.prelu(x, weight)
    ),
    "gelu": _simple(IMAGES, nn.GELU, F.gelu),
    "gelu tanh": _simple(IMAGES, partial(nn.GELU, "tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "silu": _simple(IMAGES, nn.SiLU, F.silu, lambda x: F.silu(x, inplace=True)),
    "mish": _simple(IMAGES, nn.Mish, F.mish),
    "celu": _simple(IMAGES, partial(nn.CELU, 0.5), lambda x: F.celu(x, 0.5), lambda x: torch.celu(x, 0.5)),
    "selu": _simple(IMAGES, nn.SELU, F.selu, torch.selu),
    "softplus": _simple(IMAGES, partial(nn.Softplus, 2), lambda x: F.softplus(x, 2)),
    "softmax": _simple(
        SEQUENCES, partial(nn.Softmax, -1), lambda x: F.softmax(x, -1), lambda x: torch.softmax(x, dim=-1),
        _method("softmax", -1),
    ),
}  # fmt: skip

WITH_WEIGHTS: dict[str, Forms] = {
    "linear": Forms(
        SEQUENCES, (partial(nn.Linear, 6, 4), lambda x, weight, bias: F.linear(x, weight, bias))
    ),
    **_convs(1, LINES), **_convs(2, IMAGES), **_convs(3, VOLUMES),
    "layer_norm": Forms(
        SEQUENCES, (partial(nn.LayerNorm, 6), _norm(F.layer_norm, (6,)), _norm(torch.layer_norm, (6,)))
    ),
    "group_norm": Forms(IMAGES, (partial(nn.GroupNorm, 2, 6), _norm(F.group_norm, 2), _norm(torch.group_norm, 2))),
    "instance_norm": Forms(
        IMAGES,
        (
            partial(nn.InstanceNorm2d, 6, affine=True),
            lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias),
        ),
    ),
    "embedding": Forms(
        (),
        (
            partial(nn.Embedding, 10, 4), lambda x, weight: F.embedding(x, weight),
            lambda x, weight: F.embedding(input=x, weight=weight), lambda x, weight: torch.embedding(weight, x),
        ),
    ),
    "embedding_bag": Forms(
        (),
        (
            partial(nn.EmbeddingBag, 10, 4, mode="sum"), lambda x, weight: F.embedding_bag(x, weight, mode="sum"),
            lambda x, weight: F.embedding_bag(x.reshape(-1), weight, torch.arange(0, 12, 4), mode="sum"),
            lambda x, weight: F.embedding_bag(
                x.reshape(-1), weight, torch.arange(0, 13, 4), mode="sum", include_last_offset=True
            ),
            lambda x, weight: F.embedding_bag(
                input=x, weight=weight, per_sample_weights=torch.ones(3, 4), mode="sum"
            ),
        ),
    ),
}  # fmt: skip

ARITHMETIC: dict[str, Forms] = {
    "add": _simple(ROWS, lambda x: x + x.tanh(), lambda x: torch.add(x, x.tanh()), lambda x: x.add(x.tanh())),
    "add relu": _simple(
        ROWS, lambda x: F.relu(x + x.tanh()), lambda x: torch.add(x, x.tanh()).relu(),
        lambda x: torch.relu(x.add(x.tanh())),
    ),
    "add a number": _simple(
        ROWS, lambda x: x + 0.5, lambda x: 0.5 + x, lambda x: torch.add(x, 0.5), _method("add", 0.5),
        lambda x: operator.iadd(x, 0.5), _method("add_", 0.5),
    ),
    "add a number, relu": _simple(ROWS, lambda x: F.relu(x + 0.5), lambda x: x.add(0.5).relu()),
    "sub": _simple(
        ROWS, lambda x: x - x.tanh(), lambda x: torch.sub(x, x.tanh()), lambda x: x.sub(x.tanh()),
        lambda x: torch.subtract(x, x.tanh()),
    ),
    "sub relu": _simple(ROWS, lambda x: F.relu(x - x.tanh()), lambda x: torch.sub(x, x.tanh()).relu()),
    "sub a number": _simple(ROWS, lambda x: x - 0.5, lambda x: torch.sub(x, 0.5), _method("sub", 0.5)),
    "number sub": _simple(ROWS, lambda x: 0.5 - x, lambda x: torch.rsub(x, 0.5)),
    "mul": _simple(
        ROWS, lambda x: x * x.tanh(), lambda x: torch.mul(x, x.tanh()), lambda x: x.mul(x.tanh()),
        lambda x: x.multiply(x.tanh()),
    ),
    "mul relu": _simple(ROWS, lambda x: F.relu(x * x.tanh()), lambda x: torch.mul(x, x.tanh()).relu()),
    "mul by a number": _simple(
        ROWS, lambda x: x * 0.5, lambda x: 0.5 * x, lambda x: torch.mul(x, 0.5), _method("mul", 0.5)
    ),
    "mul by a number, relu": _simple(ROWS, lambda x: F.relu(x * -0.5), lambda x: torch.mul(x, -0.5).relu()),
    "div by a number": _simple(ROWS, lambda x: x / 4, lambda x: torch.div(x, 4), _method("div", 4)),
    "neg": _simple(ROWS, lambda x: -x, torch.neg, _method("neg")),
    "matmul": _simple(
        SEQUENCES, lambda x: x @ x.transpose(1, 2), lambda x: torch.matmul(x, x.transpose(1, 2)),
        lambda x: x.matmul(x.mT), lambda x: torch.bmm(x, x.transpose(-1, -2)), lambda x: x.bmm(x.transpose(1, 2)),
    ),
    "mm": _simple(ROWS, lambda x: x.mm(x.t()), lambda x: torch.mm(x, x.T), lambda x: x @ torch.t(x)),
}  # fmt: skip

SHAPES: dict[str, Forms] = {
    "cat": _simple(ROWS, lambda x: torch.cat([x, x.tanh()], 1), lambda x: torch.concat((x, x.tanh()), dim=-1)),
    "stack": _simple(ROWS, lambda x: torch.stack([x, x.tanh()], 1), lambda x: torch.stack((x, x.tanh()), dim=1)),
    "mean": _simple(IMAGES, lambda x: x.mean([2, 3]), lambda x: torch.mean(x, (2, 3)), _method("mean", dim=(-2, -1))),
    "flatten": _simple(
        IMAGES, nn.Flatten, lambda x: torch.flatten(x, 1), _method("flatten", 1), lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.view(x.size(0), -1), lambda x: torch.reshape(x, (x.shape[0], -1)),
        lambda x: torch.ravel(x).view(2, -1),
    ),
    "unflatten": _simple(
        ROWS, partial(nn.Unflatten, 1, (2, 3)), lambda x: torch.unflatten(x, 1, (2, 3)),
        _method("unflatten", 1, (2, 3)),
        lambda x: x.view(4, 2, 3), _method("view", -1, 2, 3),
    ),
    "transpose": _simple(
        SEQUENCES, lambda x: x.transpose(1, 2), lambda x: torch.transpose(x, 1, 2), _method("permute", 0, 2, 1),
        lambda x: torch.permute(x, (0, 2, 1)), lambda x: x.mT, _method("swapaxes", 1, 2), _method("movedim", 1, 2),
        lambda x: torch.swapaxes(x, 1, 2), lambda x: torch.movedim(x, 1, 2), lambda x: torch.swapdims(x, 1, 2),
        lambda x: torch.moveaxis(x, 1, 2),
    ),
    "squeeze": _simple(
        ROWS, nn.Identity, nn.Dropout, lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: torch.squeeze(torch.unsqueeze(x, 1), 1), lambda x: x[:, None].squeeze(), lambda x: x.clone(),
        lambda x: x.contiguous(), lambda x: x.detach(), lambda x: F.dropout(x, 0.5, False),
        lambda x: x.unsqueeze_(1).squeeze_(1),
    ),
    "getitem": _simple(
        SEQUENCES, lambda x: x[:, 0], lambda x: x.select(1, 0), lambda x: torch.select(x, 1, 0), lambda x: x[:, 0, :],
        lambda x: x.narrow(1, 0, 1).squeeze(1), lambda x: x.unbind(1)[0],
    ),
    "index": _simple(
        SEQUENCES, lambda x: x[:, [2, 0]], lambda x: x.index_select(1, torch.tensor([2, 0])),
        lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
    ),
    "chunk": _simple(
        IMAGES, lambda x: _swapped(x.chunk(2, 1)), lambda x: _swapped(torch.chunk(x, 2, dim=1)),
        lambda x: _swapped(x.split(3, 1)), lambda x: _swapped(torch.split(x, 3, 1)),
        lambda x: _swapped(torch.tensor_split(x, 2, dim=1)), lambda x: _swapped(x.tensor_split(2, 1)),
    ),
    "unbind": _simple(ROWS, lambda x: _stacked(x.unbind(0)), lambda x: _stacked(torch.unbind(x))),
    "repeat": _simple(
        ROWS, lambda x: x.repeat(1, 2), lambda x: torch.tile(x, (1, 2)), _method("tile", (1, 2)),
        lambda x: torch.cat([x, x], 1),
    ),
    "repeat_interleave": _simple(
        ROWS, lambda x: x.repeat_interleave(2, 1), lambda x: torch.repeat_interleave(x, 2, 1)
    ),
    "expand": _simple(
        ROWS, lambda x: x[None].expand(3, 4, 6), lambda x: x.unsqueeze(0).expand(3, -1, -1),
        lambda x: torch.broadcast_to(x, (3, 4, 6)),
    ),
    "roll": _simple(ROWS, lambda x: x.roll(1, 1), lambda x: torch.roll(x, 1, 1)),
    "flip": _simple(ROWS, lambda x: x.flip([1]), lambda x: torch.flip(x, (1,))),
    "pixel_shuffle": _simple(
        (2, 8, 3, 3), partial(nn.PixelShuffle, 2), lambda x: F.pixel_shuffle(x, 2), lambda x: torch.pixel_shuffle(x, 2)
    ),
    "pixel_unshuffle": _simple((2, 2, 4, 4), partial(nn.PixelUnshuffle, 2), lambda x: F.pixel_unshuffle(x, 2)),
    "channel_shuffle": _simple(
        IMAGES, partial(nn.ChannelShuffle, 2), lambda x: F.channel_shuffle(x, 2),
        lambda x: x.view(2, 2, 3, 8, 8).transpose(1, 2).reshape(2, 6, 8, 8),
    ),
    "nearest": _simple(
        IMAGES, partial(nn.Upsample, scale_factor=2), lambda x: F.interpolate(x, scale_factor=2.0),
        lambda x: F.interpolate(x, (16, 16)), partial(nn.UpsamplingNearest2d, scale_factor=2),
    ),
    "bilinear": _simple(
        IMAGES, partial(nn.Upsample, scale_factor=2, mode="bilinear"),
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    ),
    "pad": _simple(
        IMAGES, partial(nn.ZeroPad2d, 1), lambda x: F.pad(x, (1, 1, 1, 1)), partial(nn.ConstantPad2d, 1, 0.0)
    ),
    "reflect": _simple(IMAGES, partial(nn.ReflectionPad2d, 1), lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "replicate": _simple(IMAGES, partial(nn.ReplicationPad2d, 1), lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate")),
    **_pools(1, LINES), **_pools(2, IMAGES), **_pools(3, VOLUMES),
}  # fmt: skip

FORMS = {**ACTIVATIONS, **WITH_WEIGHTS, **ARITHMETIC, **SHAPES}
