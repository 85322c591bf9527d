"""The fused multiply-add of the reference backend against exact rational arithmetic."""

from __future__ import annotations

import struct
from fractions import Fraction

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qcore_reference.arithmetic import fma

MAX = Fraction(torch.finfo(torch.float32).max)


def nearest(exact: Fraction) -> float:
    """exact rounded to float32, to nearest, ties to even; subnormals and overflow as IEEE 754 has them."""
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / unit) * unit  # Fraction rounds halves to even
    result = float(rounded) if rounded <= MAX else float("inf")
    return -result if exact < 0 else result


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
patterns = st.integers(0, 2**23 - 1)


def build(mantissa: int, exponent: int, sign: int) -> float:
    return struct.unpack("f", struct.pack("I", sign << 31 | (exponent + 127) << 23 | mantissa))[0]


close = st.builds(build, patterns, st.integers(-30, 30), st.integers(0, 1))


@settings(deadline=None, derandomize=True, max_examples=3000)
@given(a=floats | close, b=floats | close, c=floats | close)
@example(a=1.0 + 2**-23, b=1.0 + 2**-23, c=2.0**-60)
@example(a=2.0**-75, b=2.0**-75, c=1.0 + 2**-23)
@example(a=1.5, b=2.0**-24, c=1.0)
@example(a=3.0, b=-(2.0**-26), c=1.0)
@example(a=2.0**-149, b=0.5, c=0.0)
@example(a=2.0**-149, b=0.5, c=2.0**-149)
@example(a=3.4e38, b=2.0, c=-3.4e38)
def test_rounds_once(a, b, c):
    expected = nearest(Fraction(a) * Fraction(b) + Fraction(c)) if (a and b) or c else 0.0
    assert float(fma(torch.tensor(a), torch.tensor(b), torch.tensor(c))) == expected


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(product=st.tuples(patterns, patterns), shift=st.integers(-30, 30), tail=st.integers(-3, 3))
def test_rounds_once_beside_ties(product, shift, tail):
    """c places the exact sum on a float32 tie, or a little beside it, where rounding twice would go wrong."""
    a, b = (Fraction(2**23 + mantissa, 2**23) for mantissa in product)
    top = nearest(a * b * Fraction(2) ** shift)
    c = nearest(Fraction(top) - a * b + Fraction(tail, 2**50))
    exact = a * b + Fraction(c)
    assert float(fma(torch.tensor(float(a)), torch.tensor(float(b)), torch.tensor(c))) == nearest(exact)


def test_keeps_infinities_and_nan():
    inf, nan = float("inf"), float("nan")
    got = fma(torch.tensor([inf, -inf, inf, 1.0, nan]), torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]), torch.tensor(2.0))
    assert got[:2].tolist() == [inf, -inf]
    assert got[2].isnan()
    assert got[3] == 3.0
    assert got[4].isnan()
