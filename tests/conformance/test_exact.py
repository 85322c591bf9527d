"""The oracle's fused multiply-add rounds the exact value once: compared with rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.conformance.exact import fma

FLOATS = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)


def nearest(value: Fraction) -> float:
    """The float32 nearest to a rational number, ties to even; normal range only."""
    if value == 0:
        return 0.0
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    step = Fraction(2) ** (max(exponent, -126) - 23)
    return float(round(value / step) * step)  # round() of a Fraction is half to even


@settings(max_examples=3000, deadline=None, derandomize=True, database=None)
@given(a=FLOATS, b=FLOATS, c=FLOATS)
def test_it_equals_rational_arithmetic(a, b, c):
    got = float(fma(torch.tensor(a), torch.tensor(b), torch.tensor(c)))
    assert got == nearest(Fraction(a) * Fraction(b) + Fraction(c))


def test_it_differs_from_two_roundings_where_it_must():
    a, c = torch.tensor(1.0 + 2.0**-12), torch.tensor(-1.0 - 2.0**-11)
    assert float(a * a + c) == 0.0
    assert float(fma(a, a, c)) == 2.0**-24


def test_it_does_not_round_twice():
    """The product is halfway between two float32 and c is below float64's reach: only c's sign can decide."""
    a, b, c = 1.0 + 2.0**-12, 1.0 + 2.0**-12, 2.0**-70  # a * b = 1 + 2**-11 + 2**-24
    tensors = [torch.tensor(value) for value in (a, b, c)]
    below, above = 1.0 + 2.0**-11, 1.0 + 2.0**-11 + 2.0**-23
    assert float((tensors[0].double() * tensors[1].double() + tensors[2].double()).float()) == below
    assert float(fma(*tensors)) == above
    assert float(fma(tensors[0], tensors[1], -tensors[2])) == below
