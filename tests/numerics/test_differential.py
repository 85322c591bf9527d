"""The reference backend gives torch's integers, to the bit (docs/numerics.md lists what is set aside, and why)."""

from __future__ import annotations

import pytest

from tests import oracle
from tests.numerics.differential import CASES, compare


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "-")
@pytest.mark.parametrize("name", CASES)
def test_reference_equals_torch(name):
    tally = compare(name, cases=800, seed=1)
    assert tally.mismatches == 0, tally.first
    assert tally.compared > 2 * tally.aside
    assert tally.compared >= 800
