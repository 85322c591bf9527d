"""Quantized transposed convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.errors import ArgumentError, UnsupportedError
from qcore.nn.quantized.conv import ConvBase, Size


class ConvTransposeBase(ConvBase):
    """What transposed convolutions share: the weight is (in, out / groups, *kernel), its channels lie on axis 1."""

    computes = "conv_transpose"
    transposed = True
    channel_axis = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros" or isinstance(padding, str):
            raise ArgumentError(
                f"a transposed convolution pads with zeros, by numbers; got {padding!r} and mode {padding_mode!r}"
            )
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.output_padding = self._each("output_padding", output_padding, 0)

    def operator(self) -> ops.ConvTranspose:
        """The operator with this module's weight."""
        sizes = self.stride, self.padding, self.output_padding, self.dilation
        return ops.ConvTranspose(self._raw, self._qweight, self._bias, self.relu, *sizes, self.groups)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Quantized (batch, in_channels, *spatial) -> quantized; UnsupportedError for an output_size."""
        if output_size is not None:
            raise UnsupportedError(
                f"{self._label()} takes no output_size, which chooses an output_padding at each call: give the layer "
                "that output_padding when it is made, or leave it float by a qconfig of None"
            )
        return super().forward(input)

    def _bias_length(self) -> int:
        return self.out_channels

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.bias is not None,
            layer.dilation,
            layer.padding_mode,
        )


class ConvTranspose1d(ConvTransposeBase):
    """Quantized (batch, in_channels, length) -> quantized (batch, out_channels, length'); as nn.ConvTranspose1d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "conv_transpose".
    """

    spatial = 1


class ConvTranspose2d(ConvTransposeBase):
    """Quantized (batch, in_channels, height, width) -> quantized (batch, out_channels, ...); as nn.ConvTranspose2d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "conv_transpose".
    """

    spatial = 2


class ConvTranspose3d(ConvTransposeBase):
    """Quantized (batch, in_channels, depth, height, width) -> (batch, out_channels, ...); as nn.ConvTranspose3d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md,
    "conv_transpose".
    """

    spatial = 3
