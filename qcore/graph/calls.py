"""What functions and methods on quantized tensors are in a graph: operators that keep the QParams, and moves."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.fx.patterns import Call, Unfit
from qcore.graph.moves import (
    Chunk,
    Contiguous,
    Flatten,
    Move,
    Permute,
    Reshape,
    Select,
    SizeOf,
    Slice,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from qcore.operators import Operator
from qcore.tensor.windows import sizes

Step: TypeAlias = "Operator | Move"
Made: TypeAlias = "tuple[list[Step], list[fx.Node]]"
"""Steps, one after the other, on the first argument; and nodes whose sizes the last of them asks for."""

Maker: TypeAlias = Callable[[Call], Made]


def _only(*steps: Step) -> Made:
    return list(steps), []


# --- operators ------------------------------------------------------------------------------------------------------


def _windows(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    kernel = sizes("kernel_size", "kernel_size", call.option(1, "kernel_size"), rank, 1)
    stride = call.option(2, "stride", None)
    steps = kernel if stride in (None, (), []) else sizes("stride", "stride", stride, rank, 1)
    padding = sizes("padding", "padding", call.option(3, "padding", 0), rank, 0)
    if any(2 * pad > width for pad, width in zip(padding, kernel, strict=True)):
        raise Unfit("its padding is more than half of the kernel")
    return kernel, steps, padding


def _max_pool(rank: int) -> Maker:
    def make(call: Call) -> Made:
        call.only(6, "return_indices", False)
        dilation = sizes("dilation", "dilation", call.option(4, "dilation", 1), rank, 1)
        return _only(ops.MaxPool(*_windows(call, rank), dilation, bool(call.option(5, "ceil_mode", False))))

    return make


def _avg_pool(rank: int) -> Maker:
    def make(call: Call) -> Made:
        flags = bool(call.option(4, "ceil_mode", False)), bool(call.option(5, "count_include_pad", True))
        divisor = None if rank == 1 else call.option(6, "divisor_override", None)
        if divisor == 0:
            raise Unfit("its divisor is 0")
        return _only(ops.AvgPool(*_windows(call, rank), *flags, divisor))

    return make


def _adaptive(rank: int) -> Maker:
    def make(call: Call) -> Made:
        given = call.option(1, "output_size")
        many = tuple(given) if isinstance(given, tuple | list) else (given,) * rank
        if len(many) != rank or not all(size is None or (isinstance(size, int) and size > 0) for size in many):
            raise Unfit(f"its output_size is {given!r}")
        return _only(ops.AdaptiveAvgPool(many))

    return make


def _clamp(low: tuple[int, str, float | None], high: tuple[int, str, float | None]) -> Maker:
    def make(call: Call) -> Made:
        bounds = [call.option(*each) for each in (low, high)]
        if any(not isinstance(bound, int | float | None) or bound != bound for bound in bounds):
            raise Unfit(f"its bounds are {bounds}")
        return _only(ops.Clamp(*(None if bound is None else float(bound) for bound in bounds)))

    return make


def _relu(call: Call) -> Made:
    return _only(ops.Clamp(low=0.0))


def _relu6(call: Call) -> Made:
    return _only(ops.Clamp(0.0, 6.0))


def _mean(call: Call) -> Made:
    dim = call.get(1, "dim")
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if call.node.kwargs.get("dtype") is not None or not all(isinstance(each, int) for each in dims):
        raise Unfit("its dim is not known, or it asks for a dtype")
    return _only(ops.Mean(dims, bool(call.get(2, "keepdim", False))))


# --- moves ----------------------------------------------------------------------------------------------------------


def _whole(call: Call, position: int, name: str, default: int | None = None) -> int:
    value = call.get(position, name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"its {name} is not a constant number")
    return value


def _listed(call: Call, name: str) -> list[Any]:
    given: Any = call.get(1, name, ())
    return list(given) if isinstance(given, tuple | list) else list(call.node.args[1:])


def _reshape(call: Call) -> Made:
    found: list[int | SizeOf] = []
    asked: list[fx.Node] = []
    for size in _listed(call, "shape"):
        if isinstance(size, int):
            found.append(size)
            continue
        source, dim = _size_of(size)
        found.append(SizeOf(1 + len(asked), dim))
        asked.append(source)
    return [Reshape(tuple(found))], asked


def _size_of(node: Any) -> tuple[fx.Node, int]:
    """The tensor and the dimension whose size a node is."""
    if isinstance(node, fx.Node) and node.target == "size" and len(node.args) == 2:
        source, dim = node.args
    elif isinstance(node, fx.Node) and node.target is python.getitem and isinstance(node.args[0], fx.Node):
        whole, dim = node.args[0], node.args[1]
        is_shape = whole.target == "size" and len(whole.args) == 1
        if not is_shape and not (whole.target is getattr and whole.args[1] == "shape"):
            raise Unfit("one of its sizes is computed")
        source = whole.args[0]
    else:
        raise Unfit("one of its sizes is computed")
    if not isinstance(source, fx.Node) or not isinstance(dim, int):
        raise Unfit("one of its sizes is computed")
    return source, dim


def _flatten(call: Call) -> Made:
    if call.module is not None:
        return _only(Flatten(call.module.start_dim, call.module.end_dim))
    return _only(Flatten(_whole(call, 1, "start_dim", 0), _whole(call, 2, "end_dim", -1)))


def _permute(call: Call) -> Made:
    dims = _listed(call, "dims")
    if not all(isinstance(dim, int) for dim in dims):
        raise Unfit("its dims are not constants")
    return _only(Permute(tuple(dims)))


def _transpose(call: Call) -> Made:
    return _only(Transpose(_whole(call, 1, "dim0"), _whole(call, 2, "dim1")))


def _squeeze(call: Call) -> Made:
    return _only(Squeeze(_whole(call, 1, "dim")))


def _unsqueeze(call: Call) -> Made:
    return _only(Unsqueeze(_whole(call, 1, "dim")))


def _select(call: Call) -> Made:
    return _only(Select(_whole(call, 1, "dim"), _whole(call, 2, "index")))


def _contiguous(call: Call) -> Made:
    if call.node.kwargs or len(call.node.args) > 1:
        raise Unfit("it asks for a memory format")
    return _only(Contiguous())


def _nothing(call: Call) -> Made:
    return _only()


def _dropout(call: Call) -> Made:
    if call.option(2, "training", True):
        raise Unfit("it drops elements")
    return _only()


def _getitem(call: Call) -> Made:
    """Numbers and slices of a tensor; or a piece of what chunk gives."""
    source, index = call.node.args[0], call.node.args[1]
    if isinstance(source, fx.Node) and is_cut(source):
        cut = Call(source)
        return _only(Chunk(_whole(cut, 1, "chunks"), _whole(cut, 2, "dim", 0), _whole(call, 1, "index")))
    steps: list[Step] = []
    dim = 0
    for each in index if isinstance(index, tuple) else (index,):
        if isinstance(each, int) and not isinstance(each, bool):
            steps.append(Select(dim, each))
        elif isinstance(each, slice):
            start, stop, step = each.start or 0, each.stop, 1 if each.step is None else each.step
            if not (isinstance(start, int) and isinstance(stop, int | None) and isinstance(step, int)):
                raise Unfit("its slice is computed")
            if each != slice(None):
                steps.append(Slice(dim, start, stop, step))
            dim += 1
        elif each is None:
            steps.append(Unsqueeze(dim))
            dim += 1
        else:
            raise Unfit("its index is neither a number nor a slice")
    return _only(*steps)


def is_cut(node: fx.Node) -> bool:
    """Whether a call gives the pieces of a tensor in a tuple."""
    return node.op in ("call_function", "call_method") and node.target in (torch.chunk, "chunk")


CALLS: dict[Any, Maker] = {
    **{function: _max_pool(1) for function in (F.max_pool1d, torch.max_pool1d, nn.MaxPool1d)},
    **{function: _max_pool(2) for function in (F.max_pool2d, torch.max_pool2d, nn.MaxPool2d)},
    **{function: _max_pool(3) for function in (F.max_pool3d, torch.max_pool3d, nn.MaxPool3d)},
    **{function: _avg_pool(1) for function in (F.avg_pool1d, nn.AvgPool1d)},
    **{function: _avg_pool(2) for function in (F.avg_pool2d, nn.AvgPool2d)},
    **{function: _avg_pool(3) for function in (F.avg_pool3d, nn.AvgPool3d)},
    **{function: _adaptive(1) for function in (F.adaptive_avg_pool1d, nn.AdaptiveAvgPool1d)},
    **{function: _adaptive(2) for function in (F.adaptive_avg_pool2d, nn.AdaptiveAvgPool2d)},
    **{function: _adaptive(3) for function in (F.adaptive_avg_pool3d, nn.AdaptiveAvgPool3d)},
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_", nn.ReLU), _relu),
    **dict.fromkeys((F.relu6, nn.ReLU6), _relu6),
    **dict.fromkeys((F.hardtanh, F.hardtanh_, nn.Hardtanh), _clamp((1, "min_val", -1.0), (2, "max_val", 1.0))),
    **dict.fromkeys((torch.clamp, "clamp", "clamp_"), _clamp((1, "min", None), (2, "max", None))),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    **dict.fromkeys((torch.flatten, "flatten", nn.Flatten), _flatten),
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.transpose, "transpose"), _transpose),
    **dict.fromkeys((torch.squeeze, "squeeze"), _squeeze),
    **dict.fromkeys((torch.unsqueeze, "unsqueeze"), _unsqueeze),
    **dict.fromkeys((torch.select, "select"), _select),
    "contiguous": _contiguous,
    "detach": _nothing,
    python.getitem: _getitem,
    F.dropout: _dropout,
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _nothing),
}  # fmt: skip
"""Function, method or class of module -> what it is; the rest stays on the module level."""
