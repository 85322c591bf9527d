"""Fused layers with fake-quantized weights: each names its float class, its ReLU and its batch norm, nothing more."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from qcore.nn import intrinsic as nni
from qcore.nn import qat as nnqat
from qcore.nn.intrinsic.qat.norm import WithNorm
from qcore.nn.qat.base import take_copies
from qcore.nn.qat.conv import ConvBase, conv_settings


class _ConvBn(WithNorm, ConvBase):
    """A convolution and its batch norm; arguments are those of the convolution, then those of the batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool | None = None,
        padding_mode: str = "zeros",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        freeze_bn: bool = False,
        qconfig: Any = None,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bool(bias), padding_mode)
        super().__init__(*sizes, qconfig)
        self._init_norm(out_channels, eps, momentum, freeze_bn, qconfig)

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as of the float layer."""
        self._check_channels(input)
        return WithNorm.forward(self, input)

    def _weigh(self, input: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(input, weight, None)
        return result

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        make: Any = cls
        return make(*conv_settings(layer), mod[1].eps, mod[1].momentum, qconfig=qconfig)


class LinearReLU(nnqat.Linear):
    """Linear with a fake-quantized weight, then ReLU; shapes, arguments and errors as of nn.qat.Linear."""

    float_class: ClassVar[type[nn.Module]] = nni.LinearReLU
    with_relu = nni.LinearReLU


class LinearBn1d(WithNorm, nn.Linear):
    """Linear and BatchNorm1d, trained with the fake-quantized weight of the Linear that both fold into.

    Float (batch, in_features) -> float (batch, out_features). Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nni.LinearBn1d
    norm_class = nn.BatchNorm1d

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        freeze_bn: bool = False,
        qconfig: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._init_norm(out_features, eps, momentum, freeze_bn, qconfig)

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as of the float layer."""
        self._check_input(input, (2,), -1, self.in_features)
        return WithNorm.forward(self, input)

    def _weigh(self, input: Tensor, weight: Tensor) -> Tensor:
        return F.linear(input, weight)

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        sizes = layer.in_features, layer.out_features, layer.bias is not None
        return cls(*sizes, mod[1].eps, mod[1].momentum, qconfig=qconfig)

    def _float_layer(self) -> nn.Module:
        return take_copies(nn.Linear(self.in_features, self.out_features, self.bias is not None), self)


class ConvReLU1d(nnqat.Conv1d):
    """Conv1d with a fake-quantized weight, then ReLU; everything else as nn.qat.Conv1d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvReLU1d
    with_relu = nni.ConvReLU1d


class ConvReLU2d(nnqat.Conv2d):
    """Conv2d with a fake-quantized weight, then ReLU; everything else as nn.qat.Conv2d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvReLU2d
    with_relu = nni.ConvReLU2d


class ConvReLU3d(nnqat.Conv3d):
    """Conv3d with a fake-quantized weight, then ReLU; everything else as nn.qat.Conv3d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvReLU3d
    with_relu = nni.ConvReLU3d


class ConvBn1d(_ConvBn, nn.Conv1d):
    """Conv1d and BatchNorm1d, trained with the fake-quantized weight of the convolution that both fold into.

    Shapes as nn.Conv1d. Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nni.ConvBn1d
    norm_class = nn.BatchNorm1d


class ConvBn2d(_ConvBn, nn.Conv2d):
    """Conv2d and BatchNorm2d, trained with the fake-quantized weight of the convolution that both fold into.

    Shapes as nn.Conv2d. Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nni.ConvBn2d
    norm_class = nn.BatchNorm2d


class ConvBn3d(_ConvBn, nn.Conv3d):
    """Conv3d and BatchNorm3d, trained with the fake-quantized weight of the convolution that both fold into.

    Shapes as nn.Conv3d. Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nni.ConvBn3d
    norm_class = nn.BatchNorm3d


class ConvBnReLU1d(ConvBn1d):
    """Conv1d, BatchNorm1d and ReLU; everything else as ConvBn1d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvBnReLU1d
    with_relu = nni.ConvReLU1d


class ConvBnReLU2d(ConvBn2d):
    """Conv2d, BatchNorm2d and ReLU; everything else as ConvBn2d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvBnReLU2d
    with_relu = nni.ConvReLU2d


class ConvBnReLU3d(ConvBn3d):
    """Conv3d, BatchNorm3d and ReLU; everything else as ConvBn3d."""

    float_class: ClassVar[type[nn.Module]] = nni.ConvBnReLU3d
    with_relu = nni.ConvReLU3d
