"""Linear trained for dynamic quantization, by the name of torch.nn.qat.dynamic."""

from __future__ import annotations

from typing import Any

from qcore.errors import ArgumentError
from qcore.nn import qat as nnqat


class Linear(nnqat.Linear):
    """nn.qat.Linear for dynamic quantization: prepare_qat fake-quantizes its input by the range of each batch.

    Raises ArgumentError without a qconfig, or with one whose activations keep ranges of former batches.
    """

    def _check_qconfig(self, qconfig: Any) -> None:
        made = qconfig.activation()
        observer = getattr(made, "activation_post_process", made)
        if getattr(observer, "averaging_constant", None) != 1:
            raise ArgumentError(
                "nn.qat.dynamic.Linear: dynamic quantization takes the range of each input by itself; this qconfig's "
                f"activation ({type(observer).__name__}) remembers former ones. Use default_dynamic_qat_qconfig, or "
                "a moving average with averaging_constant=1"
            )
