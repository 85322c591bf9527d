"""Shape, dtype and memory layout of each operator's results, known without its numbers: for fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qcore import operators as ops
from qcore.operators import Operator

Form = tuple[Sequence[Any], torch.dtype, torch.memory_format]

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def layout(x: Tensor, rank: int) -> torch.memory_format:
    """channels_last for a result of `rank` dimensions where x is, else contiguous."""
    last = _LAST.get(rank)
    if last is None or x.ndim != rank or x.is_contiguous() or not x.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


def forms(operator: Operator, call: Sequence[Any]) -> list[Form]:
    """Of each result of an operator called with these arguments."""
    return _FORMS[type(operator)](operator, *call)


def _like(x: Tensor, shape: Sequence[Any], dtype: torch.dtype) -> list[Form]:
    return [(shape, dtype, layout(x, len(shape)))]


def _same(operator: Any, x: Tensor, qx: Any = None, out: Any = None) -> list[Form]:
    return _like(x, x.shape, x.dtype if out is None else out.dtype.storage)


def _linear(operator: Any, x: Tensor, qx: Any = None, out: Any = None) -> list[Form]:
    shape = (*x.shape[:-1], operator.weight.shape[0])
    return [(shape, torch.float32 if out is None else out.dtype.storage, torch.contiguous_format)]


def _conv(operator: Any, x: Tensor, qx: Any, out: Any) -> list[Form]:
    weight = operator.weight
    sizes = zip(x.shape[2:], weight.shape[2:], operator.stride, operator.padding, operator.dilation, strict=True)
    spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    shape = (x.shape[0], weight.shape[0], *spatial)
    return [(shape, out.dtype.storage, _LAST.get(len(shape), torch.contiguous_format))]


def _conv_transpose(operator: Any, x: Tensor, qx: Any, out: Any) -> list[Form]:
    weight, settings = operator.weight, (operator.stride, operator.padding, operator.dilation, operator.output_padding)
    sizes = zip(x.shape[2:], weight.shape[2:], *settings, strict=True)
    spatial = [(n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, k, s, p, d, extra in sizes]
    return _like(x, (x.shape[0], weight.shape[1] * operator.groups, *spatial), out.dtype.storage)


def _binary(operator: Any, a: Tensor, qa: Any, b: Tensor, qb: Any, out: Any) -> list[Form]:
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return _like(a if a.ndim >= b.ndim else b, shape, out.dtype.storage)


def _float_sum(operator: Any, a: Tensor, b: Tensor) -> list[Form]:
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    return _like(a if a.ndim >= b.ndim else b, shape, torch.float32)


def _product(operator: Any, a: Tensor, qa: Any, b: Tensor, qb: Any, out: Any) -> list[Form]:
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    return [((*batch, a.shape[-2], b.shape[-1]), out.dtype.storage, torch.contiguous_format)]


def _cat(operator: Any, xs: Sequence[Tensor], qxs: Any, out: Any) -> list[Form]:
    shape = list(xs[0].shape)
    dim = operator.dim % len(shape)
    shape[dim] = sum(x.shape[dim] for x in xs)
    return _like(xs[0], shape, out.dtype.storage)


def _pool(operator: Any, x: Tensor, qx: Any) -> list[Form]:
    rank = len(operator.kernel_size)
    stride = operator.stride or operator.kernel_size
    dilation = getattr(operator, "dilation", ()) or (1,) * rank
    padding = operator.padding or (0,) * rank
    spatial = []
    for n, k, s, p, d in zip(x.shape[-rank:], operator.kernel_size, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        size = (room + (s - 1 if operator.ceil_mode else 0)) // s + 1
        # the last window must begin inside of the input or the padding before it
        spatial.append(size - 1 if operator.ceil_mode and (size - 1) * s >= n + p else size)
    return _like(x, (*x.shape[:-rank], *spatial), x.dtype)


def _adaptive(operator: Any, x: Tensor, qx: Any) -> list[Form]:
    rank = len(operator.output_size)
    sizes = zip(x.shape[-rank:], operator.output_size, strict=True)
    return _like(x, (*x.shape[:-rank], *(n if size is None else size for n, size in sizes)), x.dtype)


def _mean(operator: Any, x: Tensor, qx: Any) -> list[Form]:
    dims = {dim % x.ndim for dim in operator.dims} or set(range(x.ndim))
    shape = [1 if dim in dims else n for dim, n in enumerate(x.shape) if operator.keepdim or dim not in dims]
    return _like(x, shape, x.dtype)


def _interpolate(operator: Any, x: Tensor, qx: Any) -> list[Form]:
    sizes = operator.size
    if sizes is None:
        sizes = [int(n * factor) for n, factor in zip(x.shape[2:], operator.scale_factor, strict=True)]
    return _like(x, (*x.shape[:2], *sizes), x.dtype)


def _float(*shape: Any) -> Form:
    return shape, torch.float32, torch.contiguous_format


def _embedding(operator: Any, x: Tensor) -> list[Form]:
    return [_float(*x.shape, operator.weight.shape[1])]


def _bag(operator: Any, x: Tensor, offsets: Tensor | None, per_sample_weights: Any) -> list[Form]:
    bags = x.shape[0] if offsets is None else offsets.shape[0] - operator.include_last_offset
    return [_float(bags, operator.weight.shape[1])]


def _recurrent(operator: Any, x: Tensor, h: Tensor, *rest: Any) -> list[Form]:
    width = h.shape[2] * (2 if operator.bidirectional else 1)
    states = [_float(*h.shape)] * (1 if isinstance(operator, ops.GRU) else 2)
    return [_float(*x.shape[:-1], width), *states]


def _cell(operator: Any, x: Tensor, h: Tensor, *rest: Any) -> list[Form]:
    return [_float(*h.shape)] * (1 + len(rest))


def _attention(operator: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any) -> list[Form]:
    return [_float(*q.shape[:3], v.shape[3])]


_FORMS: dict[type[Operator], Callable[..., list[Form]]] = {
    ops.Quantize: lambda operator, x, out: _like(x, x.shape, out.dtype.storage),
    ops.Dequantize: lambda operator, x, qx: _like(x, x.shape, torch.float32),
    ops.FloatFunction: _same,
    ops.FloatAdd: _float_sum,
    ops.FloatLayerNorm: _same,
    ops.FloatEmbedding: _embedding,
    ops.Linear: _linear,
    ops.LinearDynamic: _linear,
    ops.LinearFp16: _linear,
    ops.Conv: _conv,
    ops.ConvTranspose: _conv_transpose,
    ops.Embedding: _embedding,
    ops.EmbeddingBag: _bag,
    ops.LSTM: _recurrent,
    ops.GRU: _recurrent,
    ops.LSTMCell: _cell,
    ops.GRUCell: _cell,
    ops.RNNCell: _cell,
    ops.Add: _binary,
    ops.Mul: _binary,
    ops.Attention: _attention,
    ops.MatMul: _product,
    ops.Cat: _cat,
    ops.MaxPool: _pool,
    ops.AvgPool: _pool,
    ops.AdaptiveAvgPool: _adaptive,
    ops.Mean: _mean,
    ops.Interpolate: _interpolate,
    **dict.fromkeys(
        (
            ops.Clamp, ops.Lookup, ops.PReLU, ops.Softmax, ops.BatchNorm, ops.LayerNorm, ops.GroupNorm,
            ops.InstanceNorm,
        ),
        _same,
    ),
}  # fmt: skip
