"""What convolutions and transposed ones share: packing, running, and reading back sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore import operators as ops
from qcore.compat.ops.calls import operator, output, per_tensor_quantized
from qcore.compat.ops.packed import Packed, integer_weight, packed_as
from qcore.errors import ArgumentError
from qcore.tensor.dtypes import quint8
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import choose_qparams_dynamic, per_tensor
from qcore.tensor.qtensor import QTensor


class ConvPacked(Packed):
    """An int8 weight, a bias, and the sizes of a convolution, transposed or not."""

    def __init__(
        self,
        weight: QTensor,
        bias: Tensor | None,
        sizes: dict[str, tuple[int, ...]],
        groups: int,
        transposed: bool,
    ) -> None:
        super().__init__(weight, bias)
        self.sizes = sizes
        self.groups = groups
        self.transposed = transposed

    def operator(self, relu: bool) -> ops.Operator:
        """What it computes."""
        weight: Any = self.weight
        kind: Any = ops.ConvTranspose if self.transposed else ops.Conv
        own = {name: value for name, value in self.sizes.items() if self.transposed or name != "output_padding"}
        return kind(weight.raw, weight.qparams, self.bias, relu, **own, groups=self.groups)  # type: ignore[no-any-return]


def pack(
    name: str,
    spatial: int,
    transposed: bool,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
) -> ConvPacked:
    """A packed convolution; ArgumentError for sizes that do not fit."""
    if weight.ndim != spatial + 2:
        raise ArgumentError(f"torch.ops.quantized.{name}: a weight of {weight.ndim} dimensions must have {spatial + 2}")
    axis = 1 if transposed else 0
    channels = weight.shape[axis] * (groups if transposed else 1)
    given = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    sizes = {key: _each(name, key, value, spatial) for key, value in given.items()}
    return ConvPacked(integer_weight(weight, bias, name, axis, channels), bias, sizes, groups, transposed)


def _each(name: str, argument: str, value: Any, spatial: int) -> tuple[int, ...]:
    found = tuple(int(each) for each in value)
    if len(found) == 1:
        found = found * spatial
    if len(found) != spatial:
        raise ArgumentError(f"torch.ops.quantized.{name}: {argument}={value!r} must be {spatial} numbers")
    return found


def run(name: str, spatial: int, qx: Any, packed: Any, scale: float, zero_point: int, relu: bool = False) -> QTensor:
    """A packed convolution on a quantized tensor (batch, channels, ...)."""
    x, weights = per_tensor_quantized(qx, name), packed_as(ConvPacked, packed, name)
    if x.ndim != spatial + 2 or weights.weight.ndim != spatial + 2:
        raise ArgumentError(
            f"torch.ops.quantized.{name}: the input has {x.ndim} and the weight {weights.weight.ndim} dimensions; both "
            f"must have {spatial + 2}"
        )
    out = output(x, scale, zero_point)
    kernel = weights.kernel(relu, lambda: weights.operator(relu), (x.qparams.dtype, out.dtype))
    return QTensor(kernel(x.raw, x.qparams, out), out, weights.backend)


_OUTPUT = ("output_scale", "output_zero_point")


def static(name: str, spatial: int, relu: bool = False) -> Any:
    """The operator on integers; with the sizes between, as an old schema has it, these are those that were packed."""

    def call(qx: Tensor, packed_weight: Any, *sizes_and_output: Any, **kwargs: Any) -> Tensor:
        positional = sizes_and_output[4:] if len(sizes_and_output) > 2 else sizes_and_output
        given: dict[str, Any] = {**dict(zip(_OUTPUT, positional, strict=False)), **kwargs}
        if any(key not in given for key in _OUTPUT):
            raise ArgumentError(f"torch.ops.quantized.{name}: give output_scale and output_zero_point")
        return run(name, spatial, qx, packed_weight, given["output_scale"], given["output_zero_point"], relu)

    call.__name__ = name
    call.__doc__ = f"A packed convolution{' and relu' if relu else ''} on a quantized tensor (batch, channels, ...)."
    return operator(call)


def dynamic(name: str, spatial: int) -> Any:
    """The operator on floats: quantized by their range on the way in; the result is rounded by the same parameters."""

    def call(qx: Tensor, packed_weight: Any, reduce_range: bool = False) -> Tensor:
        low, high = qx.min(), qx.max()
        scale, zero_point = choose_qparams_dynamic(low, high, reduce_range)
        qparams = per_tensor(float(scale), int(zero_point), quint8)
        x = quantize(qx, qparams, packed_as(ConvPacked, packed_weight, name).backend)
        return run(name, spatial, x, packed_weight, float(scale), int(zero_point)).dequantize()

    call.__name__ = name
    call.__doc__ = "A packed convolution on floats, which are quantized by their range inside."
    return operator(call)


def unpack(name: str) -> Any:
    """The operator that gives the weight and the bias back."""

    def call(packed_weights: Any) -> tuple[Tensor, Tensor | None]:
        return packed_as(ConvPacked, packed_weights, name).unpack()  # type: ignore[no-any-return]

    call.__name__ = name
    call.__doc__ = "The weight and the bias of a packed convolution."
    return operator(call)


def reader(name: str, what: str) -> Any:
    """The operator that reads one size of a packed convolution back."""

    def call(packed_weights: Any) -> Any:
        packed = packed_as(ConvPacked, packed_weights, name)
        if what in ("groups", "transposed"):
            return int(getattr(packed, what))
        return list(packed.sizes[what])

    call.__name__ = name
    call.__doc__ = f"The {what} of a packed convolution."
    return operator(call)
