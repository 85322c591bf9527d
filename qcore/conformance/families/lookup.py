"""Lookup: each function of one variable in decimal arithmetic of its own, and Softmax from whole exponentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, kept
from qcore.conformance.exact import f32, to_integers
from qcore.conformance.families.elementwise import real_value
from qcore.conformance.families.floats import SHAPES
from qcore.operators import Lookup, Softmax
from qcore.tensor.qparams import QParams

_DIGITS = Context(prec=45, Emax=10**9, Emin=-(10**9), traps=[])
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097")


@dataclass(frozen=True, kw_only=True)
class LookupRecipe(Recipe):
    """`args`: number of a set of parameters of the function."""

    args: int = 0


def _tanh(x: Decimal) -> Decimal:
    e = (-2 * abs(x)).exp()
    return ((1 - e) / (1 + e)).copy_sign(x)


def _erf(x: Decimal) -> Decimal:
    """Its Taylor series; 1 beyond 9, where less than 1e-36 is missing."""
    if abs(x) > 9:
        return Decimal(1).copy_sign(x)
    with localcontext(_DIGITS) as context:
        context.prec = 90  # the terms reach exp(81)
        power, total, n = x, x, 0
        while abs(power) > Decimal("1e-50"):
            n += 1
            power *= -x * x / n
            total += power / (2 * n + 1)
        return 2 * total / _PI.sqrt()


def _gelu_tanh(x: Decimal) -> Decimal:
    return x / 2 * (1 + _tanh((2 / _PI).sqrt() * (x + Decimal("0.044715") * x * x * x)))


def _elu(x: Decimal, alpha: Decimal, divisor: Decimal = Decimal(1)) -> Decimal:
    return x if x > 0 else alpha * ((x / divisor).exp() - 1)


def _selu(x: Decimal) -> Decimal:
    return Decimal("1.0507009873554804934193349852946") * _elu(x, Decimal("1.6732632423543772848170429916717"))


def _softplus(x: Decimal, beta: Decimal, threshold: Decimal) -> Decimal:
    return x if x * beta > threshold else (1 + (x * beta).exp()).ln() / beta


_EXACT: dict[str, Callable[..., Decimal]] = {
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": _tanh,
    "elu": _elu,
    "celu": lambda x, alpha: _elu(x, alpha, alpha),
    "selu": _selu,
    "gelu": lambda x: x / 2 * (1 + _erf(x / Decimal(2).sqrt())),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x / (1 + (-x).exp()),
    "mish": lambda x: x * _tanh(_softplus(x, Decimal(1), Decimal(20))),
    "softplus": _softplus,
}
_STEPS: dict[str, Callable[..., Tensor]] = {
    "hardswish": lambda x: (x * (x + 3.0).clamp(0.0, 6.0)) / 6.0,
    "hardsigmoid": lambda x: (x + 3.0).clamp(0.0, 6.0) / 6.0,
    "leaky_relu": lambda x, slope: torch.where(x > 0, x, x * slope),
    "threshold": lambda x, threshold, value: torch.where(x > threshold, x, value),
}
ARGS: dict[str, tuple[tuple[float, ...], ...]] = {
    "elu": ((1.0,), (0.3,)),
    "celu": ((1.0,), (2.7,)),
    "softplus": ((1.0, 20.0), (3.3, 1.5)),
    "leaky_relu": ((0.01,), (-0.7,)),
    "threshold": ((0.1, -0.3), (-0.2, 5.0)),
}
"""Two sets of parameters for each function that has some."""


@lru_cache(maxsize=4096)
def _value(function: str, args: tuple[float, ...], x: float) -> float:
    """The exact value, rounded to float64."""
    with localcontext(_DIGITS):
        return float(_EXACT[function](Decimal(x), *(Decimal(float(f32(arg))) for arg in args)))


def tabulated(x: Tensor, qx: QParams, out: QParams, operator: Lookup) -> Tensor:
    """clamp(rint(f(real(q)) * r) + zy) for each integer of x."""
    name, args = operator.function, operator.args
    integers, entries = torch.unique(x, return_inverse=True)
    real = real_value(integers, qx)
    if name in _STEPS:
        values = _STEPS[name](real, *(f32(arg) for arg in args))
    else:
        values = f32(torch.tensor([_value(name, args, v) for v in real.tolist()], dtype=torch.float64))
    inverse = f32(1.0 / float(out.scale)) if name in ("sigmoid", "hardswish") else f32(1.0) / f32(out.scale)
    return to_integers(torch.round(values * inverse), out.zero_point, out.dtype)[entries]


def _make_lookup(facet: Facet, recipe: LookupRecipe) -> Case:
    draw = Draw(recipe)
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    args = ARGS.get(facet.function, ((), ()))[recipe.args]
    ends = real_value(torch.tensor([facet.dtype.qmin, facet.dtype.qmax]), qx)
    out = draw.out(ends.clamp(-1.0, 1.0) if facet.function == "sigmoid" else ends, facet.out_dtype, 1 / 256)
    operator = Lookup(facet.function, args)
    return Case(operator, (x, qx, out), lambda: Expected(tabulated(x, qx, out, operator), memory_format=kept(x)))


def _written_lookup(facet: Facet) -> dict[str, LookupRecipe]:
    plain = LookupRecipe(shape=(3, 4, 5, 11))
    found = {"plain": plain}
    if facet.function == facet.spec.functions[0]:  # strides and shapes have nothing to do with the function
        found |= {name: LookupRecipe(shape=shape) for name, shape in SHAPES.items() if name != "prime"}
        found |= {f"layout_{name}": replace(plain, layout=name) for name in LAYOUTS[1:]}
    if facet.dtype == facet.out_dtype:
        found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
        found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
        found["out_tiny"] = replace(plain, out="tiny")
    if facet.function in ARGS:
        found["args_other"] = replace(plain, args=1)
    return found


def _drawn_lookup(facet: Facet) -> st.SearchStrategy[LookupRecipe]:
    return st.builds(
        LookupRecipe,
        shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
        args=st.integers(0, 1),
        scale=st.sampled_from(("usual", "usual", "tiny", "large")),
        zero_point=st.sampled_from(("any", "any", "lowest", "highest")),
        layout=st.sampled_from(LAYOUTS),
        seed=st.integers(0, 2**32 - 1),
    )


def _bad_lookup(case: Case) -> Iterator[Bad]:
    operator = case.operator
    assert isinstance(operator, Lookup)
    yield "function_unknown", replace(operator, function="sine"), case.args
    yield "function_empty", replace(operator, function=""), case.args
    yield "args_more", replace(operator, args=(*operator.args, 1.0)), case.args


@dataclass(frozen=True, kw_only=True)
class SoftmaxRecipe(Recipe):
    """`dim`: of the sum; negative from the end."""

    dim: int


@lru_cache(maxsize=64)
def _exponentials(scale: float) -> list[int]:
    """rint(2**40 * exp(-(s * d))) for d = 0..255."""
    with localcontext(_DIGITS):
        exact = [2**40 * (-(Decimal(scale) * d)).exp() for d in range(256)]
        return [int(value.to_integral_value()) for value in exact]


def shares(x: Tensor, qx: QParams, dim: int) -> Tensor:
    """f32(t / T), with t and T exact integers."""
    integers = x.long()
    terms = torch.tensor(_exponentials(float(f32(qx.scale))))[integers.amax(dim, keepdim=True) - integers]
    return f32(terms.double() / terms.sum(dim, keepdim=True).double())


def _make_softmax(facet: Facet, recipe: SoftmaxRecipe) -> Case:
    draw = Draw(recipe)
    x, qx = draw.integers(recipe.shape, facet.dtype), draw.qparams(facet.dtype)
    real = shares(x, qx, recipe.dim) if x.numel() else torch.zeros(x.shape)
    out = draw.out(real, facet.out_dtype, 1e-4)

    def oracle() -> Expected:
        rounded = torch.round(real * (f32(1.0) / f32(out.scale)))
        return Expected(to_integers(rounded, out.zero_point, out.dtype), memory_format=kept(x))

    return Case(Softmax(recipe.dim), (x, qx, out), oracle)


def _written_softmax(facet: Facet) -> dict[str, SoftmaxRecipe]:
    plain = SoftmaxRecipe(shape=(3, 4, 5, 11), dim=-1)
    found = {"plain": plain} | {f"dim_{dim}": replace(plain, dim=dim) for dim in (0, 1, 2, 3, -2, -4)}
    shapes: dict[str, tuple[int, ...]] = {
        "one": (1,),
        "vector": (131,),
        "long": (2, 4099),
        "empty": (0, 4),
        "rows": (70, 3),
    }
    found |= {name: SoftmaxRecipe(shape=shape, dim=-1) for name, shape in shapes.items()}
    found |= {f"layout_{name}": replace(plain, dim=1, layout=name) for name in LAYOUTS[1:]}
    found |= {f"scale_{kind}": replace(plain, scale=kind) for kind in ("tiny", "large")}
    found |= {f"zero_point_{end}": replace(plain, zero_point=end) for end in ("lowest", "highest")}
    found |= {"constant": replace(plain, data="highest"), "out_tiny": replace(plain, out="tiny")}
    found |= {f"many_{seed}": replace(plain, shape=(500, 7), seed=seed) for seed in range(3)}
    return found


@st.composite
def _drawn_softmax(draw: st.DrawFn, facet: Facet) -> SoftmaxRecipe:
    shape = tuple(draw(st.lists(st.integers(0, 13), min_size=1, max_size=4)))
    return SoftmaxRecipe(
        shape=shape,
        dim=draw(st.integers(-len(shape), len(shape) - 1)),
        scale=draw(st.sampled_from(("usual", "usual", "tiny", "large"))),
        zero_point=draw(st.sampled_from(("any", "any", "lowest", "highest"))),
        layout=draw(st.sampled_from(LAYOUTS)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


LOOKUP = Family(
    Lookup, _written_lookup, _drawn_lookup, _make_lookup, lambda facet: LookupRecipe(shape=(100_001,)), bad=_bad_lookup
)
SOFTMAX = Family(
    Softmax, _written_softmax, _drawn_softmax, _make_softmax, lambda facet: SoftmaxRecipe(shape=(400, 257), dim=-1)
)
