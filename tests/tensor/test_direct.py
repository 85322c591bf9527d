"""Functions that go straight to their operator's handler, beside the way through torch's dispatcher: drawn calls."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import qcore
from qcore import QTensor
from qcore.tensor.direct import direct
from qcore.tensor.dispatch import FUNCTIONS, OPERATORS
from qcore.tensor.moves import moves_as_a_whole

DRAWS = 40
HOMES = (Tensor, torch, torch._C._nn, F)
SPOILT = (
    None,
    "x",
    9,
    -9,
    0,
    2**40,
    2**70,
    -1.5,
    float("nan"),
    [],
    [1, 1],
    [9],
    ["x"],
    (1, 2, 3, 4, 5),
    {},
    object(),
    True,
)


def operators() -> dict[str, list[Any]]:
    """Those that have a handler, and those that are made of moves, by the name of their function."""
    found: dict[str, list[Any]] = {}
    for packet in sorted({str(each).split(".")[1] for each in OPERATORS} | set(dir(Tensor))):
        overloads = getattr(torch.ops.aten, packet, None) if not packet.startswith("__") else None
        for name in overloads.overloads() if isinstance(overloads, torch._ops.OpOverloadPacket) else ():
            each = getattr(overloads, name)
            arguments = each._schema.arguments
            own = arguments and arguments[0].name == "self" and not packet.startswith("_")
            own = own and not packet.startswith("empty")  # whose values are any
            if own and (each in OPERATORS or moves_as_a_whole(each)):
                found.setdefault(packet, []).append(each)
    return found


def functions(name: str) -> list[Any]:
    """Functions and methods of a name, but those that have a way of their own."""
    found = [getattr(home, name) for home in HOMES if callable(getattr(home, name, None))]
    return [each for each in found if each not in FUNCTIONS]


def drawn(kind: Any, count: int | None, rng: random.Random) -> Any:
    """A value for a schema's type; NotImplemented for types that no drawn call has."""
    if kind.kind() == "OptionalType":
        return None if rng.random() < 0.3 else drawn(kind.getElementType(), count, rng)
    if kind.kind() == "ListType":
        items = [drawn(kind.getElementType(), None, rng) for _ in range(count or rng.choice((1, 2, 3, 4)))]
        return NotImplemented if NotImplemented in items else rng.choice((list, tuple))(items)
    draws = {
        "IntType": lambda: rng.choice((0, 1, 1, 2, 2, 3, 4, -1, 8)),
        "FloatType": lambda: rng.choice((0.0, 0.5, -1.0, 2.0, 1)),
        "NumberType": lambda: rng.choice((0.0, 0.5, -1.0, 2, 1)),
        "BoolType": lambda: rng.random() < 0.5,
        "StringType": lambda: rng.choice(("none", "tanh")),
        "TensorType": lambda: rng.choice((quantized(rng), torch.randn(2, 4, 4, 4), torch.tensor([0, 1]))),
    }
    draws["SymIntType"] = draws["IntType"]
    return draws[kind.kind()]() if kind.kind() in draws else NotImplemented


def quantized(rng: random.Random) -> QTensor:
    x = torch.randn(2, 4, 4, 4)
    if rng.random() < 0.2:
        return qcore.quantize_per_channel(x, torch.full((4,), 0.1), torch.arange(4), 1, qcore.qint8)
    x = rng.choice((x, x, x.transpose(1, 2), x.contiguous(memory_format=torch.channels_last)))
    return qcore.quantize_per_tensor(x, 0.05, 3, rng.choice((qcore.quint8, qcore.qint8)))


def calls(
    name: str, overloads: list[Any], seed: int, spoil: bool = False
) -> Iterator[tuple[Any, list[Any], dict[str, Any]]]:
    """A function with its arguments, some of them as keywords."""
    rng = random.Random(f"{name}{seed}")
    for function in functions(name):
        for number in range(DRAWS // 4):
            torch.manual_seed(number)
            parameters = rng.choice(overloads)._schema.arguments[1:]
            args: list[Any] = [quantized(rng)]
            kwargs: dict[str, Any] = {}
            for each in parameters:
                value = drawn(each.real_type, each.N, rng)
                if value is NotImplemented or (each.has_default_value() and rng.random() < 0.5):
                    continue
                value = rng.choice(SPOILT) if spoil and rng.random() < 0.5 else value
                if kwargs or each.kwarg_only or rng.random() < 0.2:
                    kwargs[each.name] = value
                else:
                    args.append(value)
            yield function, args, kwargs


def outcome(run: Any) -> Any:
    """What a call gives, or the exception that it raises."""
    try:
        result = run()
    except Exception as error:
        return error
    return result


def same(a: Any, b: Any) -> bool:
    if isinstance(a, QTensor):
        kept = isinstance(b, QTensor) and (a.qparams, a.stride()) == (b.qparams, b.stride())
        return kept and torch.equal(a.raw, b.raw)
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return isinstance(b, Exception) if isinstance(a, Exception) else type(a) is type(b) and a == b


def shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else value


def shares(result: Any, x: QTensor) -> list[tuple[bool, bool]]:
    """For each part of a result, whether it shows x, and is known to show a part of another tensor."""
    parts = result if isinstance(result, tuple | list) else [result]
    aliases = [isinstance(each, QTensor) and torch._C._is_alias_of(each.raw, x.raw) for each in parts]
    return [(alias, alias and each.is_window) for alias, each in zip(aliases, parts, strict=True)]


@pytest.mark.parametrize("name", operators())
def test_the_short_way_gives_what_the_dispatcher_gives(name):
    overloads = operators()[name]
    for (function, args, kwargs), (_, again, options) in zip(
        calls(name, overloads, 1), calls(name, overloads, 1), strict=True
    ):
        with torch._C.DisableTorchFunctionSubclass():
            expected = outcome(lambda f=function, a=args, k=kwargs: f(*a, **k))
        result = outcome(lambda f=function, a=again, k=options: direct(f, a, k))
        if result is NotImplemented or (options and isinstance(expected, TypeError)):
            continue  # not the name that torch's parser has for this argument
        told = f"{function} {shown(again[1:])} {shown(options)}: {shown(result)} instead of {shown(expected)}"
        assert same(result, expected), told
        assert same(again[0], args[0]), told
        if not isinstance(expected, Exception):
            assert shares(result, again[0]) == shares(expected, args[0]), told
            assert (result is again[0]) == (expected is args[0]), told


def test_common_functions_take_the_short_way():
    q = qcore.quantize_per_tensor(torch.randn(2, 4, 4, 4), 0.05, 3, qcore.quint8)
    for call in (
        lambda: direct(Tensor.view, (q, 8, 16), {}),
        lambda: direct(Tensor.permute, (q, (0, 2, 3, 1)), {}),
        lambda: direct(torch.flatten, (q, 1), {}),
        lambda: direct(torch.unsqueeze, (q,), {"dim": 0}),
        lambda: direct(F.avg_pool2d, (q, 2), {"ceil_mode": True}),
        lambda: direct(F.adaptive_avg_pool1d, (q[0], 1), {}),
        lambda: direct(F.hardtanh, (q, -1.0, 1.0, False), {}),
        lambda: direct(torch.sigmoid, (q,), {}),
        lambda: direct(Tensor.clamp, (q,), {"max": 1.0}),
        lambda: direct(Tensor.relu_, (q,), {}),
    ):
        assert isinstance(call(), QTensor)


@pytest.mark.parametrize("name", operators())
def test_spoiled_arguments_raise_what_torch_raises_or_an_error_of_ours(name):
    overloads = operators()[name]
    for function, args, kwargs in calls(name, overloads, 2, spoil=True):
        floats = [x.dequantize() if isinstance(x, QTensor) else x for x in args]
        options = {key: x.dequantize() if isinstance(x, QTensor) else x for key, x in kwargs.items()}
        try:
            function(*args, **kwargs)
        except qcore.QcoreError as error:
            assert len(str(error)) > 15
        except Exception as error:
            with pytest.raises(type(error)):
                function(*floats, **options)


WRITES = (
    lambda w: w.fill_(0.5),
    lambda w: w[0].fill_(-1.0),
    lambda w: w.view(12).fill_(0.25),
    lambda w: w.clamp_(max=0.1),
    lambda w: w.__setitem__(1, 0.7),
    lambda w: w.t()[0].copy_(torch.full((3,), 0.3)),
    lambda w: w.chunk(3)[1].zero_(),
    lambda w: F.relu(w, inplace=True),
    lambda w: w.masked_fill_(torch.eye(3, 4).bool(), 0.9),
)


@pytest.mark.parametrize("seed", range(6))
def test_a_weight_that_is_written_to_through_any_view_is_the_one_that_is_used(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    x = qcore.quantize_per_tensor(torch.randn(2, 4), 0.05, 3, qcore.quint8)
    made, fresh = qcore.nn.quantized.Linear(4, 3), qcore.nn.quantized.Linear(4, 3)
    made.set_weight_bias(qcore.quantize_per_tensor(torch.randn(3, 4), 0.05, 0, qcore.qint8), torch.zeros(3))
    made.scale = fresh.scale = 0.1
    made.zero_point = fresh.zero_point = 100
    for write in rng.sample(WRITES, len(WRITES)):
        made(x)
        weight = made.weight()
        before = weight._version
        write(weight)
        assert weight._version > before
        fresh.set_weight_bias(qcore.QTensor(weight.raw.clone(), weight.qparams), torch.zeros(3))
        assert torch.equal(made(x).raw, fresh(x).raw)
