"""What the operators share: checks of their arguments, and the call of a kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore.binding import shared_kernel
from qcore.compat.functions.overridable import overridable
from qcore.errors import ArgumentTypeError
from qcore.operators import Operator
from qcore.tensor.dispatch import per_tensor_only
from qcore.tensor.qparams import QParams, per_tensor
from qcore.tensor.qtensor import QTensor

operator = overridable("torch.ops.quantized")
"""Makes a function an operator of torch.ops.quantized."""


def per_tensor_quantized(x: Any, name: str) -> QTensor:
    """x, which must be quantized per tensor."""
    if not isinstance(x, QTensor):
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ArgumentTypeError(
            f"torch.ops.quantized.{name} takes a quantized tensor (torch.quantize_per_tensor makes one), not {kind}"
        )
    per_tensor_only(x, name)
    return x


def output(x: QTensor, scale: float, zero_point: int) -> QParams:
    """Parameters of a result of x's dtype."""
    return per_tensor(scale, zero_point, x.qparams.dtype)


def run(kind: Operator, x: Any, out: QParams | None = None) -> QTensor:
    """An operator on one tensor; without `out`, the result keeps x's parameters."""
    q = per_tensor_quantized(x, kind.name)
    if out is None:
        kernel = shared_kernel(q.backend, kind, (q.qparams.dtype,))
        return QTensor(kernel(q.raw, q.qparams), q.qparams, q.backend)
    kernel = shared_kernel(q.backend, kind, (q.qparams.dtype, out.dtype))
    return QTensor(kernel(q.raw, q.qparams, out), out, q.backend)


def into(out: Any, result: QTensor, name: str) -> QTensor:
    """A result written over a tensor of the same parameters."""
    target = per_tensor_quantized(out, name)
    target.copy_(result)
    return target
