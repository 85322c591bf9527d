"""Calibration and training: the extremes and counts of floats, fake quantization, its gradient and its averages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.backend import Backend, Kernel
from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out
from qcore.conformance.exact import f32
from qcore.conformance.families.linear_dynamic import chosen
from qcore.operators import Operator
from qcore.training_operators import (
    EvenHistogram,
    FakeQuantize,
    FakeQuantizeBackward,
    Histogram,
    ObserveFakeQuantize,
    Range,
)

_SPECIAL = (float("nan"), float("inf"), -float("inf"), 3e38, 1e-40, -0.0)
_MAGNITUDES = {"huge": 1e35, "minute": 1e-30, "zero": 0.0}
_FINITE = ("usual", "ties", "one_sign", "constant", *_MAGNITUDES)


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(Recipe):
    """`axis`: of the channels, None for one range; `values`: the kind of floats in x; `integers`: the ends of theirs.

    `bins`: of histograms; `known`: whether the averages have a range already; `constant`: their averaging constant;
    `eps`: None for parameters by the rule of dynamic quantization.
    `zero_point` may also be "outside" of the integers.
    """

    axis: int | None = None
    values: str = "usual"
    integers: tuple[int, int] = (0, 255)
    bins: int = 2048
    known: bool = True
    symmetric: bool = False
    constant: float = 0.01
    eps: float | None = None


def _floats(draw: Draw, recipe: TrainingRecipe) -> Tensor:
    x = draw.floats(recipe.shape) * _MAGNITUDES.get(recipe.values, 1.0)
    if recipe.values == "special":
        x = torch.where(x > 1, draw.choices(recipe.shape, _SPECIAL), x)
    elif recipe.values == "ties":
        x = torch.round(x * 32) / 16
    elif recipe.values == "one_sign":
        x = x.abs() * draw.choices((), (-1.0, 1.0))
    elif recipe.values == "constant":
        x = torch.ones_like(x) * draw.floats(())
    return laid_out(x, recipe.layout)


def _slices(x: Tensor, axis: int | None) -> list[Tensor]:
    """All of x, or each channel."""
    return [x] if axis is None else list(x.unbind(axis))


def _along(values: Tensor, axis: int | None, ndim: int) -> Tensor:
    """One value or one for each channel, in the shape that broadcasts against a tensor of this rank."""
    return values.reshape([-1 if dim == axis else 1 for dim in range(ndim)])


def extremes(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """The least and the greatest of all or of each channel; NaN for both where not all is finite."""
    ends = []
    for part in _slices(x, axis):
        values = part.flatten().tolist()
        ends.append((min(values), max(values)) if all(map(math.isfinite, values)) else (math.nan, math.nan))
    low, high = torch.tensor(ends, dtype=torch.float32).unbind(1)
    return (low[0], high[0]) if axis is None else (low, high)


def counts_on_grid(x: Tensor, exponent: int, first: int, bins: int) -> Tensor:
    """How many lie from (first + i) * 2**exponent to below the next; zeros where not all of x is in the bins."""
    found = torch.zeros(bins, dtype=torch.int64)
    if not x.isfinite().all():
        return found
    for value, count in zip(*(part.tolist() for part in torch.unique(x.double(), return_counts=True)), strict=True):
        found[math.floor(math.ldexp(value, -exponent)) - first] += count
    return found


def counts_in_equal_bins(x: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Bin min(floor(((x - low) * bins) / (high - low)), bins - 1), each step rounded to float32."""
    quotients = f32(f32(f32(x.double() - low.double()).double() * bins).double() / f32(high.double() - low.double()))
    index, count = torch.unique(quotients.clamp(max=bins - 1).floor().long(), return_counts=True)
    return torch.zeros(bins, dtype=torch.int64).index_copy(0, index, count)


def rounded(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, integers: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The values that the clamped integers stand for, and where these were not clamped."""
    s, z = _along(scale, axis, x.ndim), _along(zero_point, axis, x.ndim).double()
    integer = torch.round(f32(x.double() * f32(1.0 / s.double()).double())).double() + z
    clamped = integer.clamp(*integers)
    return f32((clamped - z) * s.double()), (integer >= integers[0]) & (integer <= integers[1])


def _with_signs(y: Tensor) -> tuple[Tensor, Tensor]:
    """y and 1 / y, which tells 0 from -0."""
    return y, y.reciprocal()


def averaged(old: Tensor, new: Tensor, known: Tensor, constant: float) -> Tensor:
    """old + constant * (new - old), each step rounded to float32."""
    step = f32(f32(constant).double() * f32(new.double() - old.double()).double())
    return torch.where(known, f32(old.double() + step.double()), new)


def observed(low: float, high: float, operator: ObserveFakeQuantize, eps: float) -> tuple[float, int]:
    """Scale and zero point by the rule of observers, each step rounded to float32."""
    low, high, steps = min(low, 0.0), max(high, 0.0), operator.quant_max - operator.quant_min
    if operator.symmetric:
        return max(single(max(-low, high) / (steps / 2)), single(eps)), operator.middle
    scale = max(single(single(high - low) / steps), single(eps))
    zero_point = operator.quant_min - round(single(low / scale))
    return scale, min(max(zero_point, operator.quant_min), operator.quant_max)


def single(value: float) -> float:
    """The nearest float32."""
    return float(f32(value))


# --- ranges and histograms ------------------------------------------------------------------------------------------


def _make_range(facet: Facet, recipe: TrainingRecipe) -> Case:
    x = _floats(Draw(recipe), recipe)
    return Case(Range(), (x, recipe.axis), lambda: Expected(extremes(x, recipe.axis)))


def _build_histogram(backend: Backend, operator: Operator) -> Kernel:
    kernel = backend.build(operator)

    def histogram(x: Tensor, exponent: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
        counts, low, high = kernel(x, exponent, first)
        return (counts if low.isfinite() else torch.zeros_like(counts)), low, high

    return histogram


def _make_histogram(facet: Facet, recipe: TrainingRecipe) -> Case:
    draw = Draw(recipe)
    x = _floats(draw, recipe)
    finite = x[x.isfinite()].double()
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)
    largest = max(abs(low), abs(high))
    exponent = max(-126, math.frexp(largest)[1] - 23 if largest else -126)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= recipe.bins:
        exponent += 1
    exponent = min(127, exponent + int(draw.uniform(0.0, 3.0)[0]))
    first = math.floor(math.ldexp(low, -exponent))
    free = recipe.bins - 1 - (math.floor(math.ldexp(high, -exponent)) - first)
    first = max(first - int(draw.uniform(0.0, free + 1.0)[0]), -(2**24))

    def oracle() -> Expected:
        return Expected((counts_on_grid(x, exponent, first, recipe.bins), *extremes(x, None)))

    return Case(Histogram(recipe.bins), (x, exponent, first), oracle, _build_histogram)


def _make_even_histogram(facet: Facet, recipe: TrainingRecipe) -> Case:
    x = _floats(Draw(recipe), recipe)
    if x.min() == x.max():
        x = torch.tensor([0.25, -0.5])
    low, high = x.min(), x.max()
    return Case(
        EvenHistogram(recipe.bins),
        (x, low, high),
        lambda: Expected(counts_in_equal_bins(x.flatten(), low, high, recipe.bins)),
    )


# --- fake quantization ----------------------------------------------------------------------------------------------


def _parameters(draw: Draw, recipe: TrainingRecipe) -> tuple[Tensor, Tensor]:
    """Scales and zero points for as many channels as there are."""
    channels = 1 if recipe.axis is None else recipe.shape[recipe.axis]
    low, high = recipe.integers
    ends = {"lowest": (low, low), "highest": (high, high), "outside": (low - 300, low - 100)}
    low, high = ends.get(recipe.zero_point, (low, high))
    zeros = [round(value) for value in draw.uniform(low, high, channels)]
    if recipe.values == "ties":
        return torch.full((channels,), 0.125), torch.tensor(zeros, dtype=torch.int32)
    unit = _MAGNITUDES.get(recipe.values) or 1.0
    scales = torch.tensor([draw.scale() * unit for _ in range(channels)], dtype=torch.float64)
    return f32(scales), torch.tensor(zeros, dtype=torch.int32)


def _rounding_args(draw: Draw, recipe: TrainingRecipe) -> tuple[Tensor, Tensor, Tensor, int | None]:
    """x and its parameters; with out="halves" all of x lies next to the middle between two values."""
    x, (scale, zero_point) = _floats(draw, recipe), _parameters(draw, recipe)
    if recipe.out == "halves":
        x = (torch.round(x * 50) + 0.5) * _along(scale, recipe.axis, x.ndim)
    return x, scale, zero_point, recipe.axis


def _build_rounding(backend: Backend, operator: Operator) -> Kernel:
    """Without the mask, which is the backend's own affair."""
    kernel = backend.build(operator)

    def fake_quantize(*args: Any) -> tuple[Tensor, Tensor]:
        y, _ = kernel(*args)
        return _with_signs(y)

    return fake_quantize


def _make_rounding(facet: Facet, recipe: TrainingRecipe) -> Case:
    args = _rounding_args(Draw(recipe), recipe)
    return Case(
        FakeQuantize(*recipe.integers),
        args,
        lambda: Expected(_with_signs(rounded(*args, recipe.integers)[0])),
        _build_rounding,
    )


def _build_gradient(backend: Backend, operator: Operator) -> Kernel:
    """With the mask of the same backend's FakeQuantize."""
    forward, backward = backend.build(FakeQuantize()), backend.build(operator)

    def gradient(grad: Tensor, *args: Any) -> Tensor:
        y, mask = forward(*args)
        laid = torch.empty_strided(y.shape, y.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
        result: Tensor = backward(laid, mask)
        return result

    return gradient


def _make_gradient(facet: Facet, recipe: TrainingRecipe) -> Case:
    recipe = replace(recipe, integers=(0, 255))
    draw = Draw(recipe)
    args = _rounding_args(draw, recipe)
    grad = draw.floats(recipe.shape)
    grad = torch.where(grad > 1, draw.choices(recipe.shape, _SPECIAL), grad)

    def oracle() -> Expected:
        return Expected(torch.where(rounded(*args, recipe.integers)[1], grad, 0.0))

    return Case(FakeQuantizeBackward(), (grad, *args), oracle, _build_gradient)


def _build_observed(backend: Backend, operator: Operator) -> Kernel:
    """On copies of the averages and parameters, which are results too; without the mask."""
    kernel = backend.build(operator)

    def observe_fake_quantize(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        *state, axis = args
        state = [part.clone() if isinstance(part, Tensor) else part for part in state]
        result = kernel(x, *state, axis)
        return (*state, *(_with_signs(result[0]) if result is not None else ()))

    return observe_fake_quantize


def _make_observed(facet: Facet, recipe: TrainingRecipe) -> Case:
    draw = Draw(recipe)
    middle = sum(recipe.integers) // 2
    operator = ObserveFakeQuantize(*recipe.integers, recipe.symmetric, recipe.constant, recipe.eps, middle)
    x, axis = _floats(draw, recipe), recipe.axis
    scale, zero_point = _parameters(draw, replace(recipe, zero_point="any"))
    shape = scale.shape if axis is not None else ()
    low, high = torch.full(shape, torch.inf), torch.full(shape, -torch.inf)
    if recipe.known:
        low, high = -draw.floats(shape).abs(), draw.floats(shape).abs()

    def oracle() -> Expected:
        new = extremes(x, axis)
        if new[0].isnan().any():
            return Expected((low, high, scale, zero_point))
        bounds = [averaged(old, to, low.isfinite(), recipe.constant) for old, to in zip((low, high), new, strict=True)]
        pairs = [
            chosen(least, greatest, operator.quant_max, operator.quant_min, symmetric=operator.symmetric)
            if recipe.eps is None
            else observed(least, greatest, operator, recipe.eps)
            for least, greatest in zip(*(bound.reshape(-1).tolist() for bound in bounds), strict=True)
        ]
        s = f32(torch.tensor([found for found, _ in pairs], dtype=torch.float64))
        z = torch.tensor([found for _, found in pairs], dtype=torch.int32)
        return Expected((*bounds, s, z, *_with_signs(rounded(x, s, z, axis, recipe.integers)[0])))

    return Case(operator, (x, low, high, scale, zero_point, axis), oracle, _build_observed)


# --- recipes --------------------------------------------------------------------------------------------------------

_PLAIN = TrainingRecipe(shape=(3, 5, 17))
_SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (),
    "one": (1,),
    "prime": (131,),
    "blocks": (4, 64),
    "images": (2, 19, 4, 5),
    "large": (3, 4099),
}


def _written(facet: Facet, kinds: tuple[str, ...] = _FINITE) -> dict[str, TrainingRecipe]:
    found = {"plain": _PLAIN}
    found |= {name: TrainingRecipe(shape=shape) for name, shape in _SHAPES.items()}
    found |= {f"values_{kind}": replace(_PLAIN, values=kind) for kind in kinds[1:]}
    images = replace(_PLAIN, shape=_SHAPES["images"])
    found |= {f"layout_{layout}": replace(images, layout=layout) for layout in LAYOUTS[1:]}
    return found


def _written_channels(facet: Facet) -> dict[str, TrainingRecipe]:
    found = _written(facet, (*_FINITE, "special"))
    found |= {f"axis_{axis}": replace(_PLAIN, axis=axis) for axis in range(3)}
    found["axis_of_one"] = replace(_PLAIN, shape=(4, 1, 9), axis=1)
    found["axis_special"] = replace(_PLAIN, shape=(40, 3), axis=0, values="special")
    images = replace(_PLAIN, shape=_SHAPES["images"], axis=1)
    return found | {f"axis_{layout}": replace(images, layout=layout) for layout in LAYOUTS[1:]}


def _written_histogram(facet: Facet) -> dict[str, TrainingRecipe]:
    found = _written(facet, (*_FINITE, "special") if facet.spec.operator is Histogram else _FINITE)
    return found | {f"bins_{bins}": replace(_PLAIN, bins=bins) for bins in (2, 100, 4096)}


def _written_rounding(facet: Facet) -> dict[str, TrainingRecipe]:
    found = _written_channels(facet)
    found |= {f"integers_{low}_{high}": replace(_PLAIN, integers=(low, high)) for low, high in _INTEGERS}
    found |= {f"zero_point_{which}": replace(_PLAIN, zero_point=which) for which in ("lowest", "highest", "outside")}
    found |= {f"scale_{which}": replace(_PLAIN, scale=which) for which in ("tiny", "large")}
    halves = replace(_PLAIN, shape=(40, 33), out="halves")
    return found | {"out_halves": halves, "out_halves_of_channels": replace(halves, axis=0)}


_INTEGERS = ((0, 255), (-128, 127), (-127, 127), (0, 15), (-65000, 65536))


def _written_observed(facet: Facet) -> dict[str, TrainingRecipe]:
    found = _written_channels(facet)
    found |= {f"first_{name}": replace(recipe, known=False) for name, recipe in found.items()}
    found |= {f"integers_{low}_{high}": replace(_PLAIN, integers=(low, high)) for low, high in _INTEGERS[:4]}
    symmetric = replace(_PLAIN, symmetric=True)
    found |= {f"symmetric_{low}_{high}": replace(symmetric, integers=(low, high)) for low, high in _INTEGERS[:4]}
    found |= {f"constant_{constant}": replace(_PLAIN, constant=constant) for constant in (0.0, 0.3, 1.0)}
    by_observers = ["plain", "axis_1", "first_plain", "values_zero", "values_one_sign", "values_minute", "axis_special"]
    by_observers += [name for name in found if name.startswith(("integers", "symmetric"))]
    return found | {f"observers_{name}": replace(found[name], eps=2.0**-23) for name in by_observers}


def _drawn(facet: Facet) -> st.SearchStrategy[TrainingRecipe]:
    rounds = facet.spec.operator in (FakeQuantize, FakeQuantizeBackward)
    kinds = _FINITE if facet.spec.operator is EvenHistogram else (*_FINITE, "special")

    def fitting(recipe: TrainingRecipe) -> TrainingRecipe:
        return replace(recipe, axis=None) if recipe.axis is None or recipe.axis >= len(recipe.shape) else recipe

    return st.builds(
        TrainingRecipe,
        shape=st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple)
        | st.lists(st.integers(1, 9), max_size=5).map(tuple),
        axis=st.none() | st.integers(0, 4),
        values=st.sampled_from(kinds),
        integers=st.sampled_from(_INTEGERS[: 5 if rounds else 4]),
        bins=st.integers(2, 4096),
        known=st.booleans(),
        symmetric=st.booleans(),
        constant=st.sampled_from((0.0, 0.01, 0.3, 1.0)),
        eps=st.none() | st.sampled_from((2.0**-23, 1e-30, 0.5)),
        zero_point=st.sampled_from(("any", "lowest", "highest", "outside")),
        scale=st.sampled_from(("usual", "usual", "tiny", "large")),
        out=st.sampled_from(("fitting", "halves")),
        layout=st.sampled_from(LAYOUTS),
        seed=st.integers(0, 2**32 - 1),
    ).map(fitting)


def _bad(case: Case) -> Iterator[Bad]:
    """What no kernel of these takes: no elements, axes that are not there, parameters that do not fit."""

    def but(index: int, value: Any) -> tuple[Any, ...]:
        return (*case.args[:index], value, *case.args[index + 1 :])

    operator, args = case.operator, case.args
    if not isinstance(operator, FakeQuantizeBackward):
        yield "empty", operator, but(0, args[0][:0])
    if isinstance(operator, Range | FakeQuantize | ObserveFakeQuantize):
        yield "axis_99", operator, but(len(args) - 1, 99)
        yield "axis_negative", operator, but(len(args) - 1, -1)
    if isinstance(operator, Histogram):
        yield "exponent_too_high", operator, but(1, 128)
        yield "first_too_low", operator, but(2, -(2**24) - 1)
        yield "first_too_high", operator, but(2, 2**24 + 1)
        yield "bins_0", Histogram(0), args
    if isinstance(operator, EvenHistogram):
        yield "bounds_equal", operator, but(1, args[2])
        yield "bounds_nan", operator, but(1, torch.tensor(torch.nan))
        yield "bins_0", EvenHistogram(0), args
    if isinstance(operator, FakeQuantize | ObserveFakeQuantize):
        first = len(args) - 3
        yield "scales_more", operator, but(first, torch.ones(1001))
        yield "zero_points_more", operator, but(first + 1, torch.zeros(1001, dtype=torch.int32))
        yield "integers_fall", replace(operator, quant_min=256), args
        yield "integers_beyond", replace(operator, quant_max=2**20), args
    if isinstance(operator, ObserveFakeQuantize):
        yield "eps_0", replace(operator, eps=0.0), args
        yield "eps_nan", replace(operator, eps=torch.nan), args
        yield "middle_beyond", replace(operator, middle=2**20), args
    if isinstance(operator, FakeQuantize):
        yield "zero_point_beyond", operator, but(2, args[2] + 2**20)


_family = partial(Family, drawn=_drawn, requantizes=False, bad=_bad)


def _large(facet: Facet) -> TrainingRecipe:
    return TrainingRecipe(shape=(5, 70, 1001), axis=1)


RANGE = _family(Range, _written_channels, make=_make_range, large=_large)
HISTOGRAM = _family(Histogram, _written_histogram, make=_make_histogram, large=_large)
EVEN_HISTOGRAM = _family(EvenHistogram, _written_histogram, make=_make_even_histogram, large=_large)
FAKE_QUANTIZE = _family(FakeQuantize, _written_rounding, make=_make_rounding, large=_large)
FAKE_QUANTIZE_BACKWARD = _family(FakeQuantizeBackward, _written_rounding, make=_make_gradient, large=_large)
OBSERVE_FAKE_QUANTIZE = _family(ObserveFakeQuantize, _written_observed, make=_make_observed, large=_large)
