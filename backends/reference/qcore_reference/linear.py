"""Linear on integers."""

from __future__ import annotations

from torch import Tensor

from qcore.backend import Kernel
from qcore.capability import Limit, OpSpec
from qcore.operators import Linear
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import centered
from qcore_reference.weighted import ACCUMULATED, WEIGHTS, Constants, finish

LIMITS = (Limit("in_features", ACCUMULATED, "exact int32 accumulation of uint8 x int8"),)
OPS = (OpSpec(Linear, activations=(quint8, qint8), weights=WEIGHTS, fused=("relu",), limits=LIMITS),)


def build_linear(operator: Linear) -> Kernel:
    """acc = sum over k of (x - zx) * (w - zw), then the common finish."""
    constants = Constants.of(operator)

    def linear(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        return finish(centered(x, qx) @ constants.weight.T, constants, qx, out, operator.relu)

    return linear


KERNELS = {Linear: build_linear}
