"""Transposed convolutions in one to three dimensions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore.compat.ops import convolving
from qcore.compat.ops.calls import operator


def _prepack(name: str, spatial: int) -> Any:
    def call(
        weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int
    ) -> convolving.ConvPacked:
        return convolving.pack(name, spatial, True, weight, bias, stride, padding, output_padding, dilation, groups)

    call.__name__ = name
    call.__doc__ = "A qint8 weight (in, out / groups, ...) and a float bias (out,) or None -> packed."
    return operator(call)


conv_transpose1d_prepack = _prepack("conv_transpose1d_prepack", 1)
conv_transpose2d_prepack = _prepack("conv_transpose2d_prepack", 2)
conv_transpose3d_prepack = _prepack("conv_transpose3d_prepack", 3)

conv_transpose1d_unpack = convolving.unpack("conv_transpose1d_unpack")
conv_transpose2d_unpack = convolving.unpack("conv_transpose2d_unpack")
conv_transpose3d_unpack = convolving.unpack("conv_transpose3d_unpack")

conv_transpose1d = convolving.static("conv_transpose1d", 1)
conv_transpose2d = convolving.static("conv_transpose2d", 2)
conv_transpose3d = convolving.static("conv_transpose3d", 3)

conv_transpose1d_dynamic = convolving.dynamic("conv_transpose1d_dynamic", 1)
conv_transpose2d_dynamic = convolving.dynamic("conv_transpose2d_dynamic", 2)
conv_transpose3d_dynamic = convolving.dynamic("conv_transpose3d_dynamic", 3)

conv_transpose2d_stride = convolving.reader("conv_transpose2d_stride", "stride")
conv_transpose2d_padding = convolving.reader("conv_transpose2d_padding", "padding")
conv_transpose2d_output_padding = convolving.reader("conv_transpose2d_output_padding", "output_padding")
conv_transpose2d_dilation = convolving.reader("conv_transpose2d_dilation", "dilation")
conv_transpose2d_groups = convolving.reader("conv_transpose2d_groups", "groups")
conv_transpose2d_transpose = convolving.reader("conv_transpose2d_transpose", "transposed")
conv_transpose3d_stride = convolving.reader("conv_transpose3d_stride", "stride")
conv_transpose3d_padding = convolving.reader("conv_transpose3d_padding", "padding")
conv_transpose3d_output_padding = convolving.reader("conv_transpose3d_output_padding", "output_padding")
conv_transpose3d_dilation = convolving.reader("conv_transpose3d_dilation", "dilation")
conv_transpose3d_groups = convolving.reader("conv_transpose3d_groups", "groups")
conv_transpose3d_transpose = convolving.reader("conv_transpose3d_transpose", "transposed")
