"""Kernels that are shared are those of the backends that there are now."""

from __future__ import annotations

import pytest

import qcore
from qcore.binding import shared_kernel
from qcore.operators import Clamp


class Answering(qcore.Backend):
    """Its kernels give one answer."""

    name = "answering"
    version = "1.0"

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def probe(self) -> qcore.Availability:
        return qcore.Availability(True)

    def capability(self) -> qcore.Capability:
        return qcore.Capability((qcore.OpSpec(Clamp),))

    def build(self, operator):
        return lambda x, qx: self._answer

    @qcore.hookimpl
    def qcore_backend(self) -> qcore.Backend:
        return self


def answer() -> str:
    return shared_kernel("answering", Clamp(low=0.0), (qcore.quint8,))(None, None)


def test_a_removed_backend_leaves_no_kernels_behind():
    qcore.registry.register(Answering("first"), "answering")
    try:
        assert answer() == "first"
        qcore.registry.unregister("answering")
        with pytest.raises(qcore.BackendError, match="'answering' is not installed"):
            answer()
        qcore.registry.register(Answering("second"), "answering")
        assert answer() == "second"
    finally:
        qcore.registry.unregister("answering")
