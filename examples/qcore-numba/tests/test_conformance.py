"""The Numba backend under qcore's conformance kit."""

from qcore.conformance import Conformance


class TestConformance(Conformance):
    backend = "numba"
