"""Matrix products of activations."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import MatMul
from qcore.operators.products import check_shapes
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered, f32, requantize

OPS = (OpSpec(MatMul, activations=(quint8, qint8)),)


def build(operator: MatMul) -> Kernel:
    """clamp(rint(f32(sum of (a - za) * (b - zb)) * ((sa * sb) / sy)) + zy)."""

    def matmul(a: Tensor, qa: QParams, b: Tensor, qb: QParams, out: QParams) -> Tensor:
        check_shapes(a, b)
        sums = torch.matmul(centered(a, qa), centered(b, qb)).float()
        return requantize(sums, f32(qa.scale) * f32(qb.scale) / f32(out.scale), out)

    return matmul


KERNELS = {MatMul: build}
