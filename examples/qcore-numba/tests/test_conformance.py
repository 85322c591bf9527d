"""The Numba backend under qcore's conformance kit."""

import pytest

from qcore.conformance import Conformance

pytest.importorskip("qcore_numba", reason="torch-qcore-numba is not installed here")


class TestConformance(Conformance):
    backend = "numba"
