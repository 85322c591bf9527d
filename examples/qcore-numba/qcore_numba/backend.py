"""What this backend is, what it declares, and who builds each operator."""

from __future__ import annotations

from importlib.util import find_spec

import qcore
from qcore import operators as ops
from qcore.checks import check_operator, checked
from qcore.operators import Operator

WEIGHTS = (qcore.WeightSpec(per_channel=True), qcore.WeightSpec(per_channel=False))
WHY = "sums of more products of 255 * 255 could leave int32"
LINEAR, CONV = (qcore.Limit(extent, 33025, WHY) for extent in ("in_features", "accumulated"))
OPS = (
    qcore.OpSpec(ops.Linear, weights=WEIGHTS, fused=("relu",), limits=(LINEAR,)),
    qcore.OpSpec(ops.Conv, weights=WEIGHTS, fused=("relu",), spatial=(1, 2, 3), limits=(CONV,)),
    qcore.OpSpec(ops.Add, fused=("relu",)),
    qcore.OpSpec(ops.Mul, fused=("relu",)),
    qcore.OpSpec(ops.Clamp),
)


class NumbaBackend(qcore.Backend):
    """Integer kernels in Python, compiled for this CPU when they are first called."""

    name = "numba"
    version = "0.1.0"
    summary = "kernels in Numba: the example of the guide for backend authors"
    api_version = (1, 0)
    priority = 10

    def probe(self) -> qcore.Availability:
        """Wherever Numba is installed; it is not imported for that."""
        if find_spec("numba") is None:
            return qcore.Availability(False, "Numba is not installed", "pip install numba")
        return qcore.Availability(True, detail="compiled for this CPU")

    def capability(self) -> qcore.Capability:
        """The same everywhere."""
        return qcore.Capability(OPS, qcore.standard_patterns(OPS))

    def build(self, operator: Operator) -> qcore.Kernel:
        """The operator's kernel, with its arguments checked at each call."""
        from qcore_numba import elementwise, weighted

        verdict = self.supports(operator)
        if not verdict:
            raise qcore.UnsupportedError(f"{self.name}: {verdict.reason}")
        check_operator(operator)
        build = {
            ops.Linear: weighted.build_linear,
            ops.Conv: weighted.build_conv,
            ops.Add: elementwise.build_add,
            ops.Mul: elementwise.build_mul,
            ops.Clamp: elementwise.build_clamp,
        }[type(operator)]
        return checked(operator, build(operator))
