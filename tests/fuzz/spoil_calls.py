"""Arguments changed: each value to another of its kind, of another kind, or to one that nothing takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

import qcore

NAN, INF = float("nan"), float("inf")
INTEGERS = (-1, 0, 1, 2, 3, 7, 255, 256, 2**31 - 1, 2**31, 2**32, 2**48, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)
INTEGERS += (-2, -128, -(2**31), -(2**62), -(2**63), -(2**63) - 1)
FLOATS = (NAN, INF, -INF, 0.0, -0.0, -1.0, 1e-300, 5e-324, 1e-45, 1e-38, 1e38, 1e300, 0.5, 2.5)
STRINGS = ("", "x", "\0", "\ud800", "x" * 5000, "sum", "reference", "relu", "0.weight", "..", "%s{0}")
DTYPES = (torch.float16, torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
DTYPES += (torch.bool, torch.complex64, torch.float32)
QDTYPES = (qcore.quint8, qcore.qint8, qcore.qint32, qcore.quint4x2)
SCHEMES = (qcore.per_tensor_affine, qcore.per_channel_affine, qcore.per_channel_affine_float_qparams)
SCHEMES += (qcore.per_tensor_symmetric, qcore.per_channel_symmetric, torch.strided, torch.preserve_format)


class Subclass(Tensor):
    """A tensor of a user's own class."""


class Anything:
    """An object that has everything and means nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


def quantized(*shape: int, dtype: Any = qcore.quint8) -> qcore.QTensor:
    return qcore.quantize_per_tensor(torch.randn(shape), 0.05, 113 if dtype == qcore.quint8 else 0, dtype)


def by_channel(*shape: int, axis: int = 0) -> qcore.QTensor:
    size = shape[axis]
    return qcore.quantize_per_channel(torch.randn(shape), torch.ones(size), torch.zeros(size).int(), axis, qcore.qint8)


POOL: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: NAN,
    lambda: -1,
    lambda: 0,
    lambda: 2**31,
    lambda: 2**62,
    lambda: -(2**63),
    lambda: True,
    lambda: "x",
    lambda: b"x",
    lambda: (),
    list,
    dict,
    lambda: {"x": 1},
    lambda: {1, "x"},
    lambda: [1] * 9,
    lambda: [0] * 20_000,
    lambda: 1j,
    lambda: object(),
    Anything,
    lambda: print,
    lambda: int,
    lambda: torch,
    lambda: iter([1, 2]),
    lambda: slice(0, 2),
    lambda: ...,
    lambda: nn.Linear(2, 2),
    lambda: nn.Linear,
    nn.ReLU,
    lambda: torch.ones(2, 2),
    lambda: torch.tensor(1.5),
    lambda: torch.tensor(3),
    lambda: torch.randn(2, 4),
    lambda: torch.zeros(0),
    lambda: torch.device("meta"),
    lambda: torch.float32,
    lambda: torch.randn(2, 4).numpy(),
    lambda: qcore.quint8,
    lambda: qcore.per_tensor_affine,
    lambda: quantized(2, 4),
    lambda: by_channel(2, 4),
    lambda: qcore.api.qconfig.default_qconfig,
    lambda: qcore.api.observer.MinMaxObserver,
    lambda: qcore.api.observer.MinMaxObserver(),
    lambda: qcore.QConfigMapping(),
    lambda: qcore.QParams(qcore.quint8, 0.1, 3),
)

_TENSORS: dict[str, Callable[[Tensor, Random], Any]] = {
    "dtype": lambda x, rng: x.to(rng.choice(DTYPES)),
    "flat": lambda x, rng: x.flatten(),
    "one rank more": lambda x, rng: x[None],
    "one rank less": lambda x, rng: x[0],
    "rank 0": lambda x, rng: x.flatten()[0],
    "rank 9": lambda x, rng: x.reshape(*(1,) * (9 - x.ndim), *x.shape),
    "no elements": lambda x, rng: x[..., :0],
    "no rows": lambda x, rng: x[:0],
    "shorter": lambda x, rng: x[..., :-1],
    "fewer rows": lambda x, rng: x[:-1],
    "longer": lambda x, rng: torch.cat([x, x], rng.randrange(x.ndim)),
    "transposed": lambda x, rng: x.transpose(0, -1),
    "strides of a transpose": lambda x, rng: x.transpose(0, -1).contiguous().transpose(0, -1),
    "every second": lambda x, rng: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x, rng: x[:1].expand(x.shape),
    "overlapping": lambda x, rng: torch.as_strided(x, x.shape, (1,) * x.ndim),
    "offset": lambda x, rng: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
    "huge by stride 0": lambda x, rng: x.flatten()[:1].expand(2 ** rng.choice((16, 45, 62))),
    "huge rows by stride 0": lambda x, rng: x[:1].expand(2 ** rng.choice((12, 45)), *x.shape[1:]),
    "NaN": lambda x, rng: _filled(x, NAN, rng),
    "inf": lambda x, rng: _filled(x, INF, rng),
    "1e38": lambda x, rng: _filled(x, 1e38, rng),
    "a large integer": lambda x, rng: _filled(x, rng.choice((-1, 127, 2**31 - 1, 2**40, -(2**63))), rng),
    "zeros": lambda x, rng: torch.zeros_like(x),
    "meta": lambda x, rng: x.to("meta"),
    "sparse": lambda x, rng: x.to_sparse(),
    "csr": lambda x, rng: x.to_sparse_csr(),
    "gradient": lambda x, rng: x.float().requires_grad_(),
    "negative bit": lambda x, rng: torch._neg_view(x),
    "complex": lambda x, rng: torch.complex(x.float(), x.float()).conj(),
    "subclass": lambda x, rng: x.as_subclass(Subclass),
    "parameter": lambda x, rng: nn.Parameter(x.float()),
    "list": lambda x, rng: x.tolist(),
    "numpy": lambda x, rng: x.numpy(),
    "in a list": lambda x, rng: [x, x],
    "quantized": lambda x, rng: qcore.quantize_per_tensor(x.float(), 0.05, 0, rng.choice(QDTYPES[:3])),
    "quantized per channel": lambda x, rng: by_channel(*x.shape),
    "nested": lambda x, rng: torch.nested.nested_tensor([x, x[:1]]),
}


def _filled(x: Tensor, value: Any, rng: Random) -> Tensor:
    """One element changed, or all."""
    x = x.clone()
    (x.view(-1)[rng.randrange(x.numel())] if rng.random() < 0.5 else x).fill_(value)
    return x


def _spoiled_qtensor(x: qcore.QTensor, rng: Random) -> Any:
    choice = rng.randrange(6)
    if choice == 0:
        return x.dequantize()
    if choice == 1:
        return x.int_repr()
    if choice == 2:
        return by_channel(*x.shape, axis=rng.randrange(max(1, x.ndim)))
    if choice == 3:
        return quantized(*x.shape, dtype=rng.choice(QDTYPES[:3]))
    if choice == 4:
        return qcore.QTensor(x.raw, qcore.QParams(x.qparams.dtype, rng.choice(FLOATS), rng.choice(INTEGERS)))
    names = ("flat", "one rank more", "one rank less", "rank 0", "no elements", "no rows", "shorter", "fewer rows")
    names += ("meta", "transposed", "every second", "expanded", "huge by stride 0")
    return _TENSORS[rng.choice(names)](x, rng)


def _spoiled_module(module: nn.Module, rng: Random) -> Any:
    choice = rng.randrange(7)
    if choice == 0:
        return module.train(not module.training)
    if choice == 1:
        return module.to("meta")
    if choice == 2:
        return module.double()
    if choice == 3:
        return nn.Sequential(module, module)
    if choice == 4:
        return rng.choice((nn.Identity, nn.Sequential, nn.ReLU, nn.ModuleList))()
    if choice == 5:
        return type(module)
    named = [*module.named_parameters(), *module.named_buffers()]
    if not named:
        return None
    name, tensor = rng.choice(named)
    with torch.no_grad():
        owner = module.get_submodule(name.rpartition(".")[0])
        value = _TENSORS[rng.choice(("NaN", "inf", "no elements", "zeros", "shorter", "longer"))](tensor.detach(), rng)
        tables = owner._parameters if name.rpartition(".")[2] in owner._parameters else owner._buffers
        tables[name.rpartition(".")[2]] = nn.Parameter(value) if tables is owner._parameters else value
    return module


def _spoiled_sequence(value: Any, rng: Random) -> Any:
    made = type(value) if type(value) in (list, tuple) else list
    items = list(value)
    choice = rng.randrange(8)
    if choice == 0 or not items:
        return rng.choice((made(), made([None]), made([1] * 9)))
    if choice == 1:
        return made(items[:-1])
    if choice == 2:
        return made([*items, items[-1]])
    if choice == 3:
        return (tuple if made is list else list)(items)
    if choice == 4:
        return made([made(items)])
    if choice == 5:
        plain = all(isinstance(each, int | float | str | None) for each in items)
        return made(items * (min(2_000, 40_000 // len(items)) if plain else 50))  # errors print what is in them
    if choice == 6:
        return made(reversed(items))
    return items[0]


def _spoiled_dict(value: dict[Any, Any], rng: Random) -> Any:
    choice = rng.randrange(5)
    if choice == 0 or not value:
        return rng.choice(({}, {"x": 1}, {None: None}, {0: {}}))
    key = rng.choice(list(value))
    if choice == 1:
        return {each: item for each, item in value.items() if each != key}
    if choice == 2:
        return {**value, rng.choice(("x", 0, None, nn.ReLU)): value[key]}
    if choice == 3:
        return list(value.items())
    return {**value, key: spoiled(value[key], rng)[0]}


def _spoiled_dataclass(value: Any, rng: Random) -> Any:
    field = rng.choice(fields(value))
    changed, _ = spoiled(getattr(value, field.name), rng)
    return replace(value, **{field.name: changed})


def spoiled(value: Any, rng: Random) -> tuple[Any, str]:
    """Another value, and in words what was done; the value itself may be changed, so give a copy."""
    if rng.random() < 0.25:
        return rng.choice(POOL)(), "from the pool"
    try:
        with torch.no_grad():
            return _changed(value, rng)
    except Exception:  # not every tensor can be changed in every way
        return None, "None"


def _changed(value: Any, rng: Random) -> tuple[Any, str]:
    if isinstance(value, bool):
        return rng.choice((not value, 2, None, "x", 0.5, torch.tensor(True))), "bool"
    if isinstance(value, int):
        others: tuple[Any, ...] = (value + 1, value - 1, -value, value * 1000, float(value), str(value), (value,))
        others += ([value] * 9, torch.tensor(value % 100), value + 0.5, None)
        return rng.choice(INTEGERS if rng.random() < 0.5 else others), "int"
    if isinstance(value, float):
        others = (-value, value * 1e6, int(value) if value == value and abs(value) < 1e9 else 0, str(value), None)
        return rng.choice(FLOATS if rng.random() < 0.6 else (*others, complex(0, 1), torch.tensor(value))), "float"
    if isinstance(value, str):
        return rng.choice((*STRINGS, value.upper(), value + "x", value[:-1], value.encode(), None, 3)), "str"
    if isinstance(value, qcore.QTensor):
        return _spoiled_qtensor(value, rng), "QTensor"
    if isinstance(value, Tensor):
        what = rng.choice(tuple(_TENSORS))
        return _TENSORS[what](value.detach(), rng), what
    if isinstance(value, nn.Module):
        return _spoiled_module(value, rng), "module"
    if is_dataclass(value) and not isinstance(value, type):
        return _spoiled_dataclass(value, rng), "field"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        if value and rng.random() < 0.5:
            items, place = list(value), rng.randrange(len(value))
            items[place], what = spoiled(items[place], rng)
            return type(value)(items), f"item {place}: {what}"
        return _spoiled_sequence(value, rng), "sequence"
    if isinstance(value, dict):
        return _spoiled_dict(value, rng), "dict"
    if type(value) in (type(qcore.quint8), torch.dtype) or type(value) is type(qcore.per_tensor_affine):
        return rng.choice((*DTYPES, *QDTYPES, *SCHEMES)), "dtype"
    return rng.choice(POOL)(), "from the pool"


def spoil(args: list[Any], kwargs: dict[str, Any], rng: Random, first: int = 0) -> str:
    """Change one or two arguments in place, from position `first` on; what was done, in words ("" for nothing)."""
    done: list[str] = []
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2))):
        places: list[Any] = [*range(first, len(args)), *kwargs]
        kind = rng.random()
        if kind < 0.04 or not places:
            kwargs[rng.choice(("x", "dtype", "backend", "inplace", "self", "dim"))] = rng.choice(POOL)()
            done.append("a keyword more")
        elif kind < 0.08:
            args.append(rng.choice(POOL)())
            done.append("an argument more")
        elif kind < 0.12:
            place = rng.choice(places)
            if isinstance(place, int):
                del args[place:]
            else:
                del kwargs[place]
            done.append(f"without {place}")
        elif kind < 0.15 and len(args) > first + 1:
            a, b = rng.randrange(first, len(args)), rng.randrange(first, len(args))
            args[a], args[b] = args[b], args[a]
            done.append(f"{a} and {b} swapped")
        else:
            place = rng.choice(places)
            store: Any = args if isinstance(place, int) else kwargs
            store[place], what = spoiled(store[place], rng)
            done.append(f"{place}: {what}")
    return "; ".join(done)


def copied(value: Any) -> Any:
    """A copy, of which nothing can be changed through the other; what cannot be copied is taken as it is."""
    if type(value) in (int, float, bool, str, type(None)):
        return value
    if type(value) is Tensor and not value.requires_grad and value.is_contiguous() and value.device.type == "cpu":
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    if type(value) is dict:
        return {key: copied(each) for key, each in value.items()}
    if is_dataclass(value) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return value
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
