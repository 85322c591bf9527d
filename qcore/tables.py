"""Lookup tables of functions of one variable, the same bits on every machine (docs/numerics.md, "Lookup tables").

Transcendental functions are evaluated in decimal arithmetic and only then rounded: C libraries differ in their exp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor

from qcore.errors import ArgumentError
from qcore.tensor.dtypes import quint4x2
from qcore.tensor.qparams import QParams

_CONTEXT = Context(prec=40, Emax=10**9, Emin=-(10**9), traps=[])
_PI = Decimal("3.141592653589793238462643383279502884197")
_ERF_SATURATES = Decimal(9)


@dataclass(frozen=True)
class Function:
    """A tabulated function: `compute(x float32, *args) -> float32`; `args` names its parameters.

    `reciprocal64`: the output scale is inverted in float64 and then rounded, where all others invert its float32 value.
    """

    compute: Callable[..., Tensor]
    args: tuple[str, ...] = ()
    reciprocal64: bool = False


@lru_cache(maxsize=1024)
def table(function: str, args: tuple[float, ...], qx: QParams, out: QParams) -> Tensor:
    """All results of a function: entry i holds that of the integer qx.dtype.qmin + i, in out's storage type.

    Callers share it: do not write to it. Raises ArgumentError for an unknown function, a wrong number of arguments,
    per-channel parameters or a dtype of more than 8 bits.
    """
    known = FUNCTIONS.get(function)
    if known is None:
        raise ArgumentError(f"function {function!r} has no table; there are {', '.join(FUNCTIONS)}")
    if len(args) != len(known.args):
        raise ArgumentError(f"{function} takes the arguments ({', '.join(known.args)}); got {args}")
    for qparams in (qx, out):
        if qparams.axis is not None or qparams.dtype.itemsize != 1 or qparams.dtype == quint4x2:
            raise ArgumentError(f"{function}: tables are for 8-bit tensors with one scale; got {qparams}")
    result = known.compute(_dequantized(qx), *args)
    return _quantized(result, out, known.reciprocal64)


@lru_cache(maxsize=1024)
def exponentials(qx: QParams) -> Tensor:
    """rint(2**40 * exp(-s * d)) for each distance d = 0..255 below the greatest integer, int64: the terms of a softmax.

    Callers share it: do not write to it.
    """
    with localcontext(_CONTEXT):
        scale = Decimal(float(torch.tensor(qx.scale, dtype=torch.float32)))
        terms = [int((2**40 * (-scale * d).exp()).to_integral_value()) for d in range(256)]
    return torch.tensor(terms, dtype=torch.int64)


def _dequantized(qx: QParams) -> Tensor:
    integers = torch.arange(qx.dtype.qmin, qx.dtype.qmax + 1, dtype=torch.float64)
    scale = torch.tensor(qx.scale, dtype=torch.float32)
    offset = scale * torch.tensor(float(qx.zero_point), dtype=torch.float32)
    # a fused multiply-add: products and sums of these few bits are exact in float64, so that only the last step rounds
    return (integers * scale.double() - offset.double()).float()


def _quantized(x: Tensor, out: QParams, reciprocal64: bool) -> Tensor:
    scale = torch.tensor(out.scale, dtype=torch.float64)
    inverse = scale.reciprocal().float() if reciprocal64 else scale.float().reciprocal()
    shifted = torch.round(x * inverse).double() + float(out.zero_point)
    return shifted.clamp(out.dtype.qmin, out.dtype.qmax).to(out.dtype.storage)


def _exact(formula: Callable[..., Decimal]) -> Callable[..., Tensor]:
    """The function that evaluates a formula on each element in decimal arithmetic."""

    def compute(x: Tensor, *args: float) -> Tensor:
        with localcontext(_CONTEXT):
            parameters = [Decimal(float(torch.tensor(arg, dtype=torch.float32))) for arg in args]
            values = [float(formula(Decimal(value), *parameters)) for value in x.tolist()]
        return torch.tensor(values, dtype=torch.float64).float()

    return compute


def _sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _tanh(x: Decimal) -> Decimal:
    return 2 * _sigmoid(2 * x) - 1


def _elu(x: Decimal, alpha: Decimal) -> Decimal:
    return x if x > 0 else alpha * (x.exp() - 1)


def _celu(x: Decimal, alpha: Decimal) -> Decimal:
    return x if x > 0 else alpha * ((x / alpha).exp() - 1)


def _selu(x: Decimal) -> Decimal:
    return Decimal("1.0507009873554804934193349852946") * _elu(x, Decimal("1.6732632423543772848170429916717"))


def _erf(x: Decimal) -> Decimal:
    if abs(x) >= _ERF_SATURATES:  # within 1e-36 of its limit
        return Decimal(1).copy_sign(x)
    term = total = 2 * x / _PI.sqrt() * (-x * x).exp()
    n = 1
    while abs(term) > Decimal("1e-36"):
        term *= 2 * x * x / (2 * n + 1)
        total += term
        n += 1
    return total


def _gelu(x: Decimal) -> Decimal:
    return x * (1 + _erf(x / Decimal(2).sqrt())) / 2


def _gelu_tanh(x: Decimal) -> Decimal:
    return x * _sigmoid(2 * (2 / _PI).sqrt() * (x + Decimal("0.044715") * x**3))


def _silu(x: Decimal) -> Decimal:
    return x * _sigmoid(x)


def _softplus(x: Decimal, beta: Decimal = Decimal(1), threshold: Decimal = Decimal(20)) -> Decimal:
    return x if x * beta > threshold else (1 + (x * beta).exp()).ln() / beta


def _mish(x: Decimal) -> Decimal:
    return x * _tanh(_softplus(x))


def _hardswish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def _hardsigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _leaky_relu(x: Tensor, negative_slope: float) -> Tensor:
    return torch.where(x > 0, x, x * negative_slope)


def _threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.where(x > threshold, x, torch.tensor(value, dtype=torch.float32))


FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function(_exact(_sigmoid), reciprocal64=True),
    "tanh": Function(_exact(_tanh)),
    "elu": Function(_exact(_elu), ("alpha",)),
    "celu": Function(_exact(_celu), ("alpha",)),
    "selu": Function(_exact(_selu)),
    "gelu": Function(_exact(_gelu)),
    "gelu_tanh": Function(_exact(_gelu_tanh)),
    "silu": Function(_exact(_silu)),
    "mish": Function(_exact(_mish)),
    "softplus": Function(_exact(_softplus), ("beta", "threshold")),
    "hardswish": Function(_hardswish, reciprocal64=True),
    "hardsigmoid": Function(_hardsigmoid),
    "leaky_relu": Function(_leaky_relu, ("negative_slope",)),
    "threshold": Function(_threshold, ("threshold", "value")),
}
"""Every function that `qcore.operators.Lookup` may name."""
