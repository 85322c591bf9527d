"""The kit that a backend proves itself with: cases made from what it declares, judged by an oracle of the kit's own.

A backend's test file, whole:

    from qcore.conformance import Conformance

    class TestConformance(Conformance):
        backend = "mynpu"

It needs pytest and hypothesis (pip install torch-qcore[conformance]). `qcore conformance mynpu` runs the same without a
file.
"""

from __future__ import annotations

from qcore.conformance.suite import Conformance

__all__ = ["Conformance"]
