"""Small programs drawn from kinds of code that a capture may get wrong, and how each is held to its float model."""

from __future__ import annotations

import functools
import random
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import qcore


class Program(nn.Module):
    """A forward as a function of the module, its input (batch, 4, 8) and arguments, with layers to call."""

    def __init__(self, body: Any, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = body
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return self.body(self, x, *args, **kwargs)


def decibels(right: torch.Tensor, found: torch.Tensor) -> float:
    """Signal to noise."""
    assert right.shape == found.shape, (right.shape, found.shape)
    noise = (right.double() - found.double()).square().sum()
    return float(10 * torch.log10(right.double().square().sum() / (noise + 1e-30)))


def results(value: Any) -> list[torch.Tensor]:
    """The float tensors of a result."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    return [each for part in (value.values() if isinstance(value, dict) else value) for each in results(part)]


def copies(values: Any) -> Any:
    """The same inputs, for models that write to them."""
    return tuple(each.clone() if isinstance(each, torch.Tensor) else each for each in values)


@torch.no_grad()
def check(model: nn.Module, *inputs: Any, least: float = 24.0, backend: str = "auto", exact: bool = True) -> nn.Module:
    """Static, dynamic and compiled models give what the float one gives, within a bound, and plans the bits of modules;
    the converted model."""
    model.eval()
    right = results(model(*copies(inputs)))
    prepared = qcore.prepare(model, example_inputs=inputs, backend=backend)
    for each, found in zip(right, results(prepared(*copies(inputs))), strict=True):
        assert decibels(each, found) > 90, "the prepared model computes something else"
    static = qcore.convert(prepared)
    dynamic = qcore.quantize_dynamic(model, backend=backend)
    of_modules = results(dynamic(*copies(inputs)))
    compiled = None
    if any(type(each).__module__.startswith("qcore.") for each in dynamic.modules()):
        try:
            compiled = qcore.compile(dynamic, inputs)
        except qcore.QuantizationError as error:  # a forward that is no graph is told, with its line
            assert "cannot be" in str(error)
    for each in (static, compiled):
        if each is None:
            continue
        planned = results(each(*copies(inputs)))
        with qcore.on_modules():
            for found, module in zip(planned, results(each(*copies(inputs))), strict=True):
                same = torch.equal(found, module) or (not exact and decibels(module, found) > 100)
                assert same, "plans and modules differ"
    for float_result, found in zip(right, results(static(*copies(inputs))), strict=True):
        assert decibels(float_result, found) > least, decibels(float_result, found)
    for float_result, found in zip(right, of_modules, strict=True):
        assert decibels(float_result, found) > least
    if compiled is not None:
        for module, found in zip(of_modules, results(compiled(*copies(inputs))), strict=True):
            assert decibels(module, found) > 60
    return static


# --- writes -----------------------------------------------------------------------------------------------------------


def writes(seed: int) -> Any:
    """A forward that keeps values under several names, and writes through some of them."""
    draw = random.Random(seed)
    views = [
        lambda v: v[:, :2], lambda v: v[..., 2:6], lambda v: v.transpose(1, 2), lambda v: v.view(v.size(0), -1),
        lambda v: v.unsqueeze(1), lambda v: v.chunk(2, -1)[1], lambda v: v.select(1, 0), lambda v: v.narrow(2, 1, 3),
        lambda v: v.unbind(1)[-1], lambda v: v.permute(2, 0, 1), lambda v: v.flatten(1), lambda v: v, lambda v: v.mT,
        lambda v: v.split([3, 5], -1)[0], lambda v: v.detach(), lambda v: v.contiguous(),
    ]  # fmt: skip

    def augmented(v):
        v *= 0.5
        return v

    def item(v):
        v[..., :1] = 0.25
        return v

    def augmented_item(v):
        v[..., 1:] += 0.5
        return v

    changes = [
        augmented, item, augmented_item, lambda v: v.mul_(0.25), lambda v: v.add_(v), lambda v: F.relu(v, inplace=True),
        lambda v: v.clamp_(-0.5, 0.5), lambda v: v.copy_(v.flip(0)), lambda v: v.masked_fill_(v > 0.5, 0.125),
        lambda v: torch.add(v, 0.5, out=v), lambda v: v.zero_(), lambda v: torch.relu_(v),
    ]  # fmt: skip
    plan = [(draw.choice(views), draw.choice(views), draw.choice(changes), draw.random() < 0.5) for _ in range(2)]
    kept_first = draw.random() < 0.5

    def body(self, x):
        y = self.a(x)
        kept, named = [y] if kept_first else [], {}
        for view, other, change, through_module in plan:
            named["other"] = other(y)
            change(view(y))
            kept.append(named["other"].sum() * 0.01 + y)
            if through_module:
                self.act(y)
        kept.append(y)
        return self.b(torch.cat(kept, 1)) + named["other"].mean()

    return body


# --- arguments --------------------------------------------------------------------------------------------------------


def defaulting(function):
    """A decorator as libraries have it, which adds an argument."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        kwargs.setdefault("factor", 2.0)
        return function(*args, **kwargs)

    return wrapped


KEYWORDS = {
    "flatten": lambda v: torch.flatten(input=v, start_dim=1),
    "view": lambda v: v.view(size=(v.shape[0], -1)),
    "clamp": lambda v: torch.clamp(input=v, max=0.5, min=-0.5).flatten(1),
    "mean": lambda v: torch.mean(input=v, axis=1, keepdims=True).flatten(1),
    "softmax": lambda v: torch.softmax(dim=-1, input=v).flatten(1),
    "transpose": lambda v: torch.transpose(dim0=1, dim1=2, input=v).flatten(1),
    "permute": lambda v: v.permute(dims=(0, 2, 1)).reshape(shape=(v.shape[0], 32)),
    "cat": lambda v: torch.cat(tensors=[v, v], axis=1)[:, :4].flatten(1),
    "add": lambda v: torch.add(other=v, input=v).flatten(1),
    "mul": lambda v: torch.mul(input=v, other=0.5).flatten(1),
    "matmul": lambda v: torch.matmul(other=v.mT, input=v).flatten(1),
    "chunk": lambda v: torch.cat([each.flatten(1) for each in torch.chunk(dim=2, chunks=2, input=v)], 1),
    "squeeze": lambda v: torch.squeeze(dim=1, input=torch.unsqueeze(input=v, dim=1)).flatten(1),
    "select": lambda v: torch.select(input=v, index=1, dim=1),
    "gelu": lambda v: F.gelu(approximate="tanh", input=v).flatten(1),
    "linear": lambda v: F.relu(input=v).flatten(start_dim=1),
    "max_pool": lambda v: F.max_pool1d(input=v, kernel_size=2).flatten(1),
    "avg_pool": lambda v: F.avg_pool1d(kernel_size=2, input=v).flatten(1),
    "interpolate": lambda v: F.interpolate(input=v[:, :, None], scale_factor=2.0).flatten(1),
    "pad": lambda v: F.pad(input=v, pad=(1, 1)).flatten(1),
}


# --- several results --------------------------------------------------------------------------------------------------


def several(seed: int) -> Any:
    """A forward that takes a value apart and uses the pieces in ways of Python's."""
    draw = random.Random(seed)
    cuts = [
        lambda v: v.chunk(2, -1), lambda v: v.split(4, -1), lambda v: v.split([2, 6], -1), lambda v: v.unbind(1),
        lambda v: torch.tensor_split(v, 2, dim=1), lambda v: torch.chunk(v, chunks=4, dim=1), lambda v: v.sort(-1),
        lambda v: v.max(-1, keepdim=True), lambda v: v.topk(3, -1), lambda v: torch.split(v, 2, 1),
    ]  # fmt: skip
    floats_only = lambda parts: [each for each in parts if each.is_floating_point()]  # noqa: E731
    uses = [
        lambda parts: parts[0], lambda parts: parts[0] * 2, lambda parts: F.relu(parts[0]),
        lambda parts: torch.cat(floats_only(list(parts)), -1), lambda parts: torch.cat([*parts[:1]], -1),
        lambda parts: parts[-len(parts)], lambda parts: sum(each.sum() for each in parts[:1]),
        lambda parts: [first := parts[0], first + 1][1],
    ]  # fmt: skip
    cut, use, layer = draw.choice(cuts), draw.choice(uses), draw.random() < 0.5

    def body(self, x):
        whole = self.a(x) if layer else x
        found = use(cut(whole))
        return self.b(whole) + found.mean()

    return body
