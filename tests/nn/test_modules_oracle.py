"""Each module against torch's original, made from the same float module with the same statistics: the same bits."""

from __future__ import annotations

import pytest

from tests import oracle
from tests.backends import USABLE
from tests.nn.differential import SUBJECTS, compare


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "-")
@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_module_equals_torchs(subject, backend):
    tally = compare(subject, 10, seed=1, backend=backend)
    assert tally.compared >= 40
    assert tally.mismatches == 0
