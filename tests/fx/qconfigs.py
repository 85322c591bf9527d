"""QConfigs that torch's graph mode can have too."""

from __future__ import annotations

import qcore
from qcore.api.observer import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    default_per_channel_weight_observer,
    default_weight_observer,
)

OURS = {
    # 7 bits, so that pairs of products stay below 2**15 and torch's kernels do not saturate
    "per_tensor": qcore.QConfig(MinMaxObserver.with_args(quant_min=0, quant_max=127), default_weight_observer),
    "per_channel": qcore.QConfig(
        MinMaxObserver.with_args(quant_min=0, quant_max=127), default_per_channel_weight_observer
    ),
    "moving": qcore.QConfig(
        MovingAverageMinMaxObserver.with_args(quant_min=0, quant_max=127, averaging_constant=0.3),
        default_per_channel_weight_observer,
    ),
}
