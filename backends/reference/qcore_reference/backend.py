"""The backend: it collects the families of operators; each family declares and builds its own."""

from __future__ import annotations

import torch

import qcore
from qcore.checks import check_operator, checked
from qcore.operators import Operator
from qcore_reference import (
    activation,
    attention,
    cat,
    conv,
    conv_transpose,
    elementwise,
    embedding,
    floats,
    interpolate,
    linear,
    linear_dynamic,
    linear_fp16,
    lookup,
    matmul,
    normalization,
    pooling,
    quantize,
    recurrent,
    reduction,
    training,
)

FAMILIES = (
    quantize,
    interpolate,
    linear,
    linear_dynamic,
    linear_fp16,
    conv,
    conv_transpose,
    elementwise,
    activation,
    attention,
    embedding,
    floats,
    lookup,
    matmul,
    cat,
    normalization,
    pooling,
    recurrent,
    reduction,
    training,
)
"""Modules with `OPS`, the declarations, and `KERNELS`, the function that builds each operator."""

OPS = tuple(spec for family in FAMILIES for spec in family.OPS)
KERNELS = {operator: build for family in FAMILIES for operator, build in family.KERNELS.items()}


class Reference(qcore.Backend):
    """Exact integer arithmetic in plain torch: slow, the same everywhere, and a stand-in for any other backend."""

    name = "reference"
    version = "0.1.0"
    api_version = (1, 0)
    summary = "plain torch, exact, runs anywhere; the numerics spec in code"
    priority = 0
    fallback = True

    def probe(self) -> qcore.Availability:
        """Always available."""
        return qcore.Availability(True, detail="plain torch")

    def capability(self) -> qcore.Capability:
        """What the families declare."""
        return CAPABILITY

    def build(self, operator: Operator) -> qcore.Kernel:
        """The kernel that the operator's family builds; like native ones, it passes on no gradients."""
        verdict = self.supports(operator)
        if not verdict:
            raise qcore.UnsupportedError(f"{self.name}: {verdict.reason}")
        check_operator(operator)
        return torch.no_grad()(checked(operator, KERNELS[type(operator)](operator)))


CAPABILITY = qcore.Capability(OPS, qcore.standard_patterns(OPS))
