"""Convolutions with fake-quantized weights; the number of dimensions comes from the float class."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from qcore.nn.qat.base import QATModule, take_copies


def conv_settings(conv: Any) -> tuple[Any, ...]:
    """The arguments that make a convolution like this one."""
    return (
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
    )


class ConvBase(QATModule):
    """What convolutions share: arguments are those of the float class, and `qconfig`."""

    _conv_forward: Any
    in_channels: int
    kernel_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        qconfig: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*sizes, device=device, dtype=dtype)
        self._init_fake_quant(qconfig)

    def forward(self, input: Tensor) -> Tensor:
        """(batch, in_channels, *spatial) -> (batch, out_channels, ...), all float."""
        self._check_channels(input)
        return self._activated(self._conv_forward(input, self.quantized_weight(), self.bias))

    def _check_channels(self, input: Any) -> None:
        spatial = len(self.kernel_size)
        self._check_input(input, (spatial + 1, spatial + 2), -spatial - 1, self.in_channels)

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        make: Any = cls
        return make(*conv_settings(layer), qconfig=qconfig)

    def _float_layer(self) -> nn.Module:
        kind: Any = next(base for base in type(self).__mro__ if base.__module__ == nn.Conv2d.__module__)
        return take_copies(kind(*conv_settings(self)), self)


class Conv1d(ConvBase, nn.Conv1d):
    """nn.Conv1d with a fake-quantized weight; arguments and shapes as nn.Conv1d's, and `qconfig`.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.Conv1d


class Conv2d(ConvBase, nn.Conv2d):
    """nn.Conv2d with a fake-quantized weight; arguments and shapes as nn.Conv2d's, and `qconfig`.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.Conv2d


class Conv3d(ConvBase, nn.Conv3d):
    """nn.Conv3d with a fake-quantized weight; arguments and shapes as nn.Conv3d's, and `qconfig`.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.Conv3d
