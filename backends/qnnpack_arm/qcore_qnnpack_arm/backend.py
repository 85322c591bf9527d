"""The backend: the operators, declarations and Python side of the x86 package, on ARM kernels."""

from __future__ import annotations

from qcore_fbgemm_x86.backend import BUILDERS, CAPABILITY

import qcore
from qcore.operators import Operator
from qcore_qnnpack_arm import isa


class QnnpackArm(qcore.Backend):
    """64-bit ARM CPUs: kernels compiled for each instruction set, the best one chosen when the process starts."""

    name = "qnnpack_arm"
    version = "0.1.0"
    summary = "native int8 kernels for 64-bit ARM: i8mm, dot product, NEON"
    priority = 100

    def probe(self) -> qcore.Availability:
        """Whether the kernels can run here; the detail is the instruction set in use."""
        return isa.probe()

    def capability(self) -> qcore.Capability:
        """What is native; the same on every instruction set."""
        return CAPABILITY

    def build(self, operator: Operator, *, isa_name: str | None = None) -> qcore.Kernel:
        """The operator's kernel, its weights packed; `isa_name` chooses among the instruction sets of this CPU."""
        kernel: qcore.Kernel = BUILDERS[type(operator)](operator, isa.kernels(isa_name))
        return kernel
