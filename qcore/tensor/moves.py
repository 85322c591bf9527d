"""Operators that move elements and change none: views, copies, indexing. They run on the integers as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qcore.errors import UnsupportedError
from qcore.tensor.channels import follow
from qcore.tensor.dispatch import implements, overrides, per_tensor_only
from qcore.tensor.mistakes import hands_on
from qcore.tensor.qtensor import QTensor, wrapped

VIEWS = (
    "view.default", "_unsafe_view.default", "_reshape_alias.default", "expand.default", "select.int", "slice.Tensor",
    "permute.default", "transpose.int", "t.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
    "unsqueeze.default", "alias.default", "detach.default", "split.Tensor", "split_with_sizes.default", "unbind.int",
    "unfold.default", "diagonal.default", "lift_fresh.default", "as_strided.default",
)  # fmt: skip
COPIES = (
    "clone.default", "index.Tensor", "index_select.default", "gather.default", "masked_select.default", "take.default",
    "flip.default", "roll.default", "repeat.default", "pixel_shuffle.default", "pixel_unshuffle.default",
    "channel_shuffle.default", "native_channel_shuffle.default",
)  # fmt: skip


@implements(*VIEWS, *COPIES)
@hands_on
def move(func: Any, x: QTensor, *args: Any, **kwargs: Any) -> Any:
    """Run on the integers; results are views of x's storage where torch's are."""
    raw = func(x.raw, *args, **kwargs)
    if isinstance(raw, Tensor):
        return _wrap(x, raw, func, lambda numbers: func(numbers, *args, **kwargs))
    return [_wrap(x, each, func, _nth(func, args, kwargs, n)) for n, each in enumerate(raw)]


def moved(x: QTensor, raw: Any, func: Any) -> Any:
    """The result of a move of x, quantized per tensor, from what it gave for the integers: one tensor, or several."""
    if not isinstance(raw, Tensor):
        return tuple(moved(x, each, func) for each in raw)
    if raw is x.raw:
        return x
    result = wrapped(raw, x.qparams, x.backend)
    if func in _WHOLE:
        result._held, result.is_window = x._held, x.is_window
    elif func.is_view and torch._C._is_alias_of(raw, x.raw):  # type: ignore[attr-defined]
        result._held, result.is_window = x._held, True
    return result


def moves_as_a_whole(func: Any) -> bool:
    """Whether an operator is made of moves alone: torch splits it, it is given numbers of dimensions and sizes, and its
    results may show its first argument."""
    key, schema = torch._C.DispatchKey.CompositeImplicitAutograd, func._schema
    shows = all(each.alias_info is not None for each in schema.returns)
    sizes = all(str(each.real_type) in ("int", "List[int]") for each in schema.arguments[1:])
    whole = shows and sizes and not schema.is_mutable and torch._C._dispatch_has_kernel(func.name())
    return bool(whole and func.has_kernel_for_dispatch_key(key))


def _nth(func: Any, args: Sequence[Any], kwargs: dict[str, Any], n: int) -> Callable[[Tensor], Tensor]:
    def moved(numbers: Tensor) -> Tensor:
        result: Tensor = func(numbers, *args, **kwargs)[n]
        return result

    return moved


def _wrap(x: QTensor, raw: Tensor, func: Any, again: Callable[[Tensor], Tensor]) -> QTensor:
    qparams = x.qparams
    if qparams.axis is not None:
        if func is torch.ops.aten.as_strided.default:
            per_tensor_only(x, "as_strided")
        qparams = follow(x.raw, raw, qparams, again, func.name().partition(".")[0])
    result = QTensor(raw, qparams, x.backend)
    if func in _WHOLE:
        result._held, result.is_window = x._held, x.is_window
    elif func.is_view:
        result.is_window = True
        if x.qparams.axis is None:
            result._held = x._held
    return result


@implements("embedding.default")
def embedding(func: Any, weight: QTensor, indices: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Rows of a quantized table."""
    flat = torch.ops.aten.index_select.default(weight, 0, indices.reshape(-1))
    return flat.view(*indices.shape, *weight.shape[1:])


@implements("stack.default", mixed=True)
def stack(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """Through cat, along a new dimension."""
    rank = tensors[0].ndim + 1
    return torch.cat([x.unsqueeze(dim if dim >= 0 else dim + rank) for x in tensors], dim if dim >= 0 else dim + rank)


@implements(*(f"{kind}_pad{rank}d.default" for kind in ("reflection", "replication") for rank in (1, 2, 3)))
def pad_from_inside(func: Any, x: QTensor, padding: Sequence[int]) -> Any:
    """torch has these for floating point only; float64 holds all integers exactly."""
    per_tensor_only(x, func.name())
    return QTensor(func(x.raw.double(), padding).to(x.raw.dtype), x.qparams, x.backend)


@implements("_to_copy.default")
def to_copy(
    func: Any,
    x: QTensor,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Any:
    """Another device or memory format; another dtype raises."""
    if dtype is not None and dtype != torch.float32:
        convert(x, dtype)
    qparams = x.qparams
    if device is not None and isinstance(qparams.scale, Tensor) and isinstance(qparams.zero_point, Tensor):
        qparams = replace(qparams, scale=qparams.scale.to(device), zero_point=qparams.zero_point.to(device))
    return QTensor(
        func(x.raw, device=device, non_blocking=non_blocking, memory_format=memory_format), qparams, x.backend
    )


_CONVERSIONS = (
    "float",
    "double",
    "half",
    "bfloat16",
    "int",
    "long",
    "short",
    "char",
    "byte",
    "bool",
    "cfloat",
    "cdouble",
)


@overrides(*(getattr(Tensor, name) for name in _CONVERSIONS))
def convert(x: QTensor, *args: Any, **kwargs: Any) -> Any:
    """At the C++ level a QTensor is float32 already, so a conversion there would hand back the quantized tensor."""
    raise UnsupportedError(
        f"a quantized tensor ({x.dtype!r}) cannot be converted to another dtype: use dequantize() for the real numbers "
        "or int_repr() for the integers, and convert that"
    )


@overrides(Tensor.new_tensor, Tensor.type_as)
def of_this_kind(x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """torch would make a float tensor here, as a QTensor is one at the C++ level."""
    raise UnsupportedError("no tensor can be made or converted like a quantized one; use qcore.quantize_per_tensor")


@overrides(Tensor.to)
def to(x: QTensor, *args: Any, **kwargs: Any) -> Any:
    """Device and memory format; a dtype raises, except for x's own."""
    if any(isinstance(value, torch.dtype | Tensor) for value in (*args, *kwargs.values())):
        convert(x)
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.to(x, *args, **kwargs)


_WHOLE = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)
