"""The kit that a backend proves itself with: cases made from what it declares, judged by an oracle of the kit's own.

A backend's test file, whole:

    from qcore.conformance import Conformance

    class TestConformance(Conformance):
        backend = "mynpu"

It needs pytest and hypothesis (pip install torch-qcore[conformance]). `qcore conformance mynpu` runs the same without a
file. The other names here are for cases of operators that qcore lacks: see the hook `qcore_families`.
"""

from __future__ import annotations

from qcore.conformance.case import DRAWN, Case, Expected, Facet, Family, Recipe, variations
from qcore.conformance.draw import Draw
from qcore.conformance.exact import f32, fma, to_integers
from qcore.conformance.suite import Conformance

__all__ = [
    "DRAWN",
    "Case",
    "Conformance",
    "Draw",
    "Expected",
    "Facet",
    "Family",
    "Recipe",
    "f32",
    "fma",
    "to_integers",
    "variations",
]
