"""Convolutions in one to three dimensions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore.compat.ops import convolving
from qcore.compat.ops.calls import operator


def _prepack(name: str, spatial: int) -> Any:
    def call(
        weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> convolving.ConvPacked:
        return convolving.pack(name, spatial, False, weight, bias, stride, padding, (0,), dilation, groups)

    call.__name__ = name
    call.__doc__ = "A qint8 weight (out, in / groups, ...) and a float bias (out,) or None -> packed."
    return operator(call)


conv_prepack = _prepack("conv_prepack", 2)
conv1d_prepack = _prepack("conv1d_prepack", 1)
conv2d_prepack = _prepack("conv2d_prepack", 2)
conv3d_prepack = _prepack("conv3d_prepack", 3)

conv_unpack = convolving.unpack("conv_unpack")
conv1d_unpack = convolving.unpack("conv1d_unpack")
conv2d_unpack = convolving.unpack("conv2d_unpack")
conv3d_unpack = convolving.unpack("conv3d_unpack")

conv1d = convolving.static("conv1d", 1)
conv2d = convolving.static("conv2d", 2)
conv3d = convolving.static("conv3d", 3)
conv1d_relu = convolving.static("conv1d_relu", 1, relu=True)
conv2d_relu = convolving.static("conv2d_relu", 2, relu=True)
conv3d_relu = convolving.static("conv3d_relu", 3, relu=True)

conv1d_dynamic = convolving.dynamic("conv1d_dynamic", 1)
conv2d_dynamic = convolving.dynamic("conv2d_dynamic", 2)
conv3d_dynamic = convolving.dynamic("conv3d_dynamic", 3)

conv2d_stride = convolving.reader("conv2d_stride", "stride")
conv2d_padding = convolving.reader("conv2d_padding", "padding")
conv2d_output_padding = convolving.reader("conv2d_output_padding", "output_padding")
conv2d_dilation = convolving.reader("conv2d_dilation", "dilation")
conv2d_groups = convolving.reader("conv2d_groups", "groups")
conv2d_transpose = convolving.reader("conv2d_transpose", "transposed")
conv3d_stride = convolving.reader("conv3d_stride", "stride")
conv3d_padding = convolving.reader("conv3d_padding", "padding")
conv3d_output_padding = convolving.reader("conv3d_output_padding", "output_padding")
conv3d_dilation = convolving.reader("conv3d_dilation", "dilation")
conv3d_groups = convolving.reader("conv3d_groups", "groups")
conv3d_transpose = convolving.reader("conv3d_transpose", "transposed")


@operator
def conv2d_unpack_sizes(packed_weights: Any) -> list[int]:
    """The shape of the weight of a packed convolution."""
    return list(conv2d_unpack(packed_weights)[0].shape)
