"""Addition, multiplication and clamping."""

from __future__ import annotations

from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Add, Clamp, Mul
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered, f32, fma, requantize, saturate

OPS = (
    OpSpec(Add, activations=(quint8, qint8), fused=("relu",)),
    OpSpec(Mul, activations=(quint8, qint8), fused=("relu",)),
    OpSpec(Clamp, activations=(quint8, qint8)),
)


def real(x: Tensor, qx: QParams) -> Tensor:
    """fma(s, x, -(s * z)): the value of each integer, as the elementwise operators take it."""
    scale = f32(qx.scale)
    return fma(x.float(), scale, -(scale * f32(qx.zero_point)))


def bound(value: float, qx: QParams) -> int:
    """clamp(rint(value * (1 / s) + z)): a limit of clamp as an integer."""
    return int(saturate(f32(value) * (1 / f32(qx.scale)) + f32(qx.zero_point), qx.dtype))


def build_add(operator: Add) -> Kernel:
    """clamp(rint((real(a) + real(b)) * (1 / sy)) + zy)."""

    def add(a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams) -> Tensor:
        return requantize(real(a, qa) + real(b, qb), 1 / f32(out.scale), out, operator.relu)

    return add


def build_mul(operator: Mul) -> Kernel:
    """clamp(rint(f32((a - za) * (b - zb)) * f32(sa * sb * (1 / sy))) + zy)."""

    def mul(a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams) -> Tensor:
        product = (centered(a, qa) * centered(b, qb)).float()
        multiplier = f32(qa.scale) * f32(qb.scale) * (1 / f32(out.scale))
        return requantize(product, multiplier, out, operator.relu)

    return mul


def build_clamp(operator: Clamp) -> Kernel:
    """min(max(x, bound(low)), bound(high))."""

    def clamp(x: Tensor, qx: QParams) -> Tensor:
        if operator.low is not None:
            x = x.clamp(min=bound(operator.low, qx))
        return x if operator.high is None else x.clamp(max=bound(operator.high, qx))

    return clamp


KERNELS = {Add: build_add, Mul: build_mul, Clamp: build_clamp}
