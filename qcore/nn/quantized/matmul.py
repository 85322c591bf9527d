"""Products of quantized matrices, with the scale and zero point of the results given."""

from __future__ import annotations

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.errors import ArgumentError, UnsupportedError
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


def matmul(x: QTensor, y: QTensor, out: QParams, backend: str | None) -> QTensor:
    """x @ y for shapes as of torch.matmul, a vector of one dimension standing for a row on the left, a column on the
    right.

    Raises ArgumentError for shapes that do not fit, UnsupportedError for an operand quantized per channel. Arithmetic:
    docs/numerics.md, "matmul".
    """
    if not x.ndim or not y.ndim:
        raise ArgumentError(f"matmul: operands must have dimensions; got {tuple(x.shape)} and {tuple(y.shape)}")
    for each in (x, y):
        if each.qparams.axis is not None:
            raise UnsupportedError("matmul of a per-channel quantized tensor is not defined; quantize per tensor")
    kernel = shared_kernel(backend, ops.MatMul(), (x.qparams.dtype, y.qparams.dtype, out.dtype))
    a = x.raw if x.ndim > 1 else x.raw.unsqueeze(0)
    b = y.raw if y.ndim > 1 else y.raw.unsqueeze(1)
    raw = kernel(a, x.qparams, b, y.qparams, out)
    raw = raw if y.ndim > 1 else raw.squeeze(-1)
    raw = raw if x.ndim > 1 else raw.squeeze(-1 if y.ndim == 1 else -2)
    return QTensor(raw, out, backend)
