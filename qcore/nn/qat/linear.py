"""Linear with a fake-quantized weight."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from qcore.nn.qat.base import QATModule, take_copies


class Linear(QATModule, nn.Linear):
    """nn.Linear with a fake-quantized weight: float (..., in_features) -> float (..., out_features).

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        qconfig: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self._init_fake_quant(qconfig)

    def forward(self, input: Tensor) -> Tensor:
        """x @ fake_quant(weight).T + bias."""
        self._check_input(input, (), -1, self.in_features)
        return self._activated(F.linear(input, self.quantized_weight(), self.bias))

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        return cls(layer.in_features, layer.out_features, layer.bias is not None, qconfig=qconfig)

    def _float_layer(self) -> nn.Module:
        return take_copies(nn.Linear(self.in_features, self.out_features, self.bias is not None), self)
