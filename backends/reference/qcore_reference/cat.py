"""Concatenation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Cat
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import f32, requantize
from qcore_reference.elementwise import real

OPS = (OpSpec(Cat, activations=(quint8, qint8), fused=("relu",)),)


def build_cat(operator: Cat) -> Kernel:
    """Each input requantized on its own: clamp(rint(real(x) * (1 / sy)) + zy)."""

    def cat(xs: Sequence[Tensor], qxs: Sequence[QParams], out: QParams) -> Tensor:
        inverse = 1 / f32(out.scale)
        parts = [requantize(real(x, qx), inverse, out, operator.relu) for x, qx in zip(xs, qxs, strict=True)]
        return torch.cat(parts, operator.dim)

    return cat


KERNELS = {Cat: build_cat}
