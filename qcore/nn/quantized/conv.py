"""Quantized convolutions: the number of dimensions comes from the float class, fusion from an attribute."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from qcore import operators as ops
from qcore.errors import ArgumentError
from qcore.nn.quantized.static import StaticOutput
from qcore.nn.quantized.weighted import Weighted
from qcore.tensor.arguments import check_whole
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor

Size: TypeAlias = "int | tuple[int, ...]"


class ConvBase(StaticOutput, Weighted):
    """What convolutions share. Arguments are those of the float class; `spatial` is its number of dimensions."""

    computes = "conv"
    spatial: ClassVar[int] = 0
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_whole(0, in_channels=in_channels, out_channels=out_channels)
        check_whole(1, groups=groups)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._each("kernel_size", kernel_size, 1)
        self.stride = self._each("stride", stride, 1)
        self.dilation = self._each("dilation", dilation, 1)
        self.groups = groups
        self.padding_mode = padding_mode
        self.output_padding = (0,) * self.spatial
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ArgumentError(f"padding_mode={padding_mode!r} is none of 'zeros', 'reflect', 'replicate', 'circular'")
        self.padding, self._explicit_padding = self._paddings(padding)
        outer, inner = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self._init_weight((outer, inner // groups, *self.kernel_size), out_channels, bias)
        self._init_output()

    def operator(self) -> ops.Operator:
        """The operator with this module's weight."""
        padding = (0,) * self.spatial if self._explicit_padding else self.padding
        return ops.Conv(
            self._raw, self._qweight, self._bias, self.relu, self.stride, padding, self.dilation, self.groups
        )

    def forward(self, input: Tensor) -> Tensor:
        """Quantized (batch, in_channels, *spatial) -> quantized (batch, out_channels, *spatial)."""
        if not isinstance(input, QTensor):
            self._refuse_input(input)
        own, shape = self.__dict__, input.raw.shape
        if len(shape) != len(own["kernel_size"]) + 2 or shape[1] != own["in_channels"]:
            raise ArgumentError(
                f"{self._label()} takes an input shaped (batch, {self.in_channels}"
                f"{', size' * self.spatial}); got shape {tuple(shape)}"
            )
        if own["_explicit_padding"]:
            input = self._pad(input)
        return self._run(input)

    @classmethod
    def _like(cls, layer: Any) -> Any:
        return cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
        )

    @classmethod
    def from_reference(cls, ref_qconv: Any, output_scale: float, output_zero_point: int) -> ConvBase:
        """The module for a reference one: float weights with their quantization parameters beside."""
        quantized: ConvBase = cls._like(ref_qconv)
        quantized.set_weight_bias(ref_qconv.get_quantized_weight(), ref_qconv.bias)
        quantized._out = per_tensor(output_scale, output_zero_point, quantized._out.dtype)
        return quantized

    def _values(self) -> dict[str, Any]:
        return {"weight": self.weight(), "bias": self.bias(), **super()._values()}

    def _set_values(self, values: dict[str, Any]) -> None:
        self.set_weight_bias(values["weight"], values["bias"])
        super()._set_values(values)

    def _each(self, argument: str, value: Size, least: int) -> tuple[int, ...]:
        """One number for each spatial dimension."""
        found = tuple(value) if isinstance(value, tuple | list) else (value,) * self.spatial
        if len(found) == 1 and self.spatial > 1:
            found = found * self.spatial
        whole = all(isinstance(number, int) and least <= number < 2**31 for number in found)
        if len(found) != self.spatial or not whole:
            raise ArgumentError(
                f"{argument}={value!r} must be {self.spatial} numbers of at least {least}, or one for all"
            )
        return found

    def _paddings(self, padding: Size | str) -> tuple[Any, tuple[int, ...]]:
        """The padding as given, and what to pad by hand (before, after, last dimension first): mostly nothing."""
        if padding == "valid":
            return (0,) * self.spatial, ()
        if padding == "same":
            if any(step != 1 for step in self.stride):
                raise ArgumentError("padding='same' needs stride 1")
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            sides = [(total // 2, total - total // 2) for total in totals]
        elif isinstance(padding, str):
            raise ArgumentError(f"padding={padding!r} is neither a number nor 'same' nor 'valid'")
        else:
            sides = [(each, each) for each in self._each("padding", padding, 0)]
        if self.padding_mode == "zeros" and all(before == after for before, after in sides):
            return tuple(before for before, _ in sides), ()
        return padding, tuple(side for pair in reversed(sides) for side in pair)

    def _pad(self, input: QTensor) -> QTensor:
        """The input padded by hand. Integers pass through float32, which holds them exactly: torch pads no uint8."""
        if self.padding_mode == "zeros":
            raw = F.pad(input.raw, self._explicit_padding, value=input.qparams.zero_point)  # type: ignore[arg-type]
        else:
            raw = F.pad(input.raw.float(), self._explicit_padding, mode=self.padding_mode).to(input.raw.dtype)
        return QTensor(raw, input.qparams, input.backend)

    def extra_repr(self) -> str:
        """Sizes, scale, zero point, and what differs from the defaults."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"scale={self.scale}, zero_point={self.zero_point}"
        )
        if self.padding != (0,) * self.spatial:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.spatial:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.spatial:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self._bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(ConvBase):
    """Quantized (batch, in_channels, length) -> quantized (batch, out_channels, length'); arguments as nn.Conv1d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md, "conv".
    """

    spatial = 1


class Conv2d(ConvBase):
    """Quantized (batch, in_channels, height, width) -> quantized (batch, out_channels, ...); arguments as nn.Conv2d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md, "conv".
    """

    spatial = 2


class Conv3d(ConvBase):
    """Quantized (batch, in_channels, depth, height, width) -> (batch, out_channels, ...); arguments as nn.Conv3d.

    Raises QuantizationError for a float input, ArgumentError for other shapes. Arithmetic: docs/numerics.md, "conv".
    """

    spatial = 3
