"""Comparisons, extremes and sorting: by real numbers, whose order is that of the integers when quantized per tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qcore.errors import UnsupportedError
from qcore.tensor.dispatch import implements, overrides, per_tensor_only, real
from qcore.tensor.mistakes import hands_on
from qcore.tensor.qtensor import QTensor

_COMPARISONS = ("eq", "ne", "ge", "gt", "le", "lt")


@implements(*(f"{name}.{other}" for name in _COMPARISONS for other in ("Tensor", "Scalar")), mixed=True)
def compare(func: Any, a: Any, b: Any) -> Any:
    """Booleans, elementwise, of the real numbers."""
    return func(real(a), real(b))


@implements(*(f"{name}.{other}_out" for name in _COMPARISONS for other in ("Tensor", "Scalar")), mixed=True)
def compare_out(func: Any, a: Any, b: Any, *, out: Tensor) -> Any:
    """Comparison into a tensor of booleans."""
    if isinstance(out, QTensor) or out.dtype != torch.bool:
        raise UnsupportedError(f"{func} of quantized tensors needs out of dtype torch.bool, not {out.dtype}")
    return func(real(a), real(b), out=out)


@overrides(Tensor.equal, torch.equal)
def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two quantized tensors have one dtype, scheme, shape, parameters and integers."""
    if not (isinstance(a, QTensor) and isinstance(b, QTensor)):
        return False
    return a.qparams == b.qparams and torch.equal(a.raw, b.raw)


@implements("max.default", "min.default")
def extreme(func: Any, x: QTensor) -> QTensor:
    """The largest or smallest element, a tensor without dimensions."""
    per_tensor_only(x, func.name())
    return QTensor(func(x.raw), x.qparams, x.backend)


_PAIRS: dict[str, Callable[..., Any]] = {
    "max.dim": torch.return_types.max,
    "min.dim": torch.return_types.min,
    "sort.default": torch.return_types.sort,
    "sort.stable": torch.return_types.sort,
    "topk.default": torch.return_types.topk,
}


@implements(*_PAIRS)
@hands_on
def with_indices(func: Any, x: QTensor, *args: Any, **kwargs: Any) -> Any:
    """Elements in some order along a dimension, and where they were."""
    per_tensor_only(x, func.name())
    values, indices = func(x.raw, *args, **kwargs)
    return QTensor(values, x.qparams, x.backend), indices


@implements("_local_scalar_dense.default")
def item(func: Any, x: QTensor) -> float:
    """The real number of a tensor of one element."""
    return float(real(x).item())
