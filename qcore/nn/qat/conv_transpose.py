"""Transposed convolutions with fake-quantized weights; the number of dimensions comes from the float class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from qcore.nn.qat.base import QATModule, take_copies

_SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "groups", "dilation")


def _settings(conv: Any) -> dict[str, Any]:
    """The arguments that make a transposed convolution like this one."""
    return {name: getattr(conv, name) for name in _SETTINGS} | {"bias": conv.bias is not None}


class ConvTransposeBase(QATModule):
    """What transposed convolutions share: the channels of the weight (in, out / groups, *kernel) lie on axis 1."""

    channel_axis = 1
    convolve: ClassVar[Callable[..., Tensor]]

    in_channels: int
    stride: tuple[int, ...]
    padding: Any
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    _output_padding: Any

    def __init__(self, *args: Any, qconfig: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._init_fake_quant(qconfig)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(batch, in_channels, *spatial) -> (batch, out_channels, ...), all float."""
        spatial, sizes = len(self.kernel_size), (self.stride, self.padding, self.kernel_size)
        self._check_input(input, (spatial + 1, spatial + 2), -spatial - 1, self.in_channels)
        beyond = self._output_padding(input, output_size, *sizes, spatial, self.dilation)
        weight = self.quantized_weight()
        convolve = type(self).convolve
        return convolve(input, weight, self.bias, self.stride, self.padding, beyond, self.groups, self.dilation)

    @classmethod
    def _like(cls, layer: Any, mod: Any, qconfig: Any) -> Any:
        return cls(**_settings(layer), qconfig=qconfig)

    def _float_layer(self) -> nn.Module:
        return take_copies(self.float_class(**_settings(self)), self)


class ConvTranspose1d(ConvTransposeBase, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with a fake-quantized weight; arguments and shapes as its, and `qconfig`, by keyword.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.ConvTranspose1d
    convolve = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(ConvTransposeBase, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with a fake-quantized weight; arguments and shapes as its, and `qconfig`, by keyword.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.ConvTranspose2d
    convolve = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(ConvTransposeBase, nn.ConvTranspose3d):
    """nn.ConvTranspose3d with a fake-quantized weight; arguments and shapes as its, and `qconfig`, by keyword.

    Raises ArgumentError without a qconfig.
    """

    float_class: ClassVar[type[nn.Module]] = nn.ConvTranspose3d
    convolve = staticmethod(F.conv_transpose3d)
