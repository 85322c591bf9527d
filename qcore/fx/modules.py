"""Modules that graphs call: operations without weights on quantized tensors, and layers in reference form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.errors import ArgumentError
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.matmul import matmul
from qcore.nn.quantized.scalar import add_scalar, mul_scalar
from qcore.nn.quantized.static import StaticOutput
from qcore.operators import Operator
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


class Operation(StaticOutput):
    """One operator without weights on quantized tensors, with one scale and zero point for its results.

    `kind` is an operator of one input, Add, Mul or MatMul (two inputs; `negate`: the second is subtracted), or Cat (a
    list). Raises QuantizationError for a float input. Arithmetic: docs/numerics.md, under the name of the operator.
    """

    def __init__(self, kind: Operator, out: QParams, negate: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.negate = negate
        self._out = out
        self._call = _CALLS.get(type(kind), _unary)

    def operator(self) -> Operator:
        """The operator."""
        return self.kind

    def forward(self, *inputs: Any) -> Tensor:
        """Quantized tensors -> quantized; shapes as of the operator."""
        result: Tensor = self._call(self, *inputs)
        return result

    def _checked(self, value: Any) -> QTensor:
        return value if isinstance(value, QTensor) else self._refuse_input(value)

    def _get_name(self) -> str:
        return f"Quantized{type(self.kind).__name__}"

    def extra_repr(self) -> str:
        """The operator, scale and zero point."""
        sign = ", second negated" if self.negate else ""
        return f"{self.kind}{sign}, scale={self.scale}, zero_point={self.zero_point}"


def _unary(module: Operation, x: Any) -> Tensor:
    return StaticOutput.forward(module, x)


def _binary(module: Operation, x: Any, y: Any) -> Tensor:
    a, b = module._checked(x), module._checked(y)
    if module.negate:
        b = mul_scalar(b, -1)
    out = module._out
    kernel = shared_kernel(module._backend, module.kind, (a.qparams.dtype, b.qparams.dtype, out.dtype))
    return QTensor(kernel(a.raw, a.qparams, b.raw, b.qparams, out), out, module._backend)


def _product(module: Operation, x: Any, y: Any) -> Tensor:
    return matmul(module._checked(x), module._checked(y), module._out, module._backend)


def _join(module: Operation, tensors: Any) -> Tensor:
    parts = [module._checked(each) for each in tensors]
    out = module._out
    dtypes = (*dict.fromkeys(part.qparams.dtype for part in parts), out.dtype)
    kernel = shared_kernel(module._backend, module.kind, dtypes)
    raw = kernel([part.raw for part in parts], [part.qparams for part in parts], out)
    return QTensor(raw, out, module._backend)


_CALLS: dict[type[Operator], Any] = {
    ops.Add: _binary,
    ops.Mul: _binary,
    ops.MatMul: _product,
    ops.Cat: _join,
}


class Constant(StaticOutput):
    """A tensor of the model that was quantized when it was converted: called without inputs, it gives `value`.

    `shape`: its sizes; its integers are zero until they are loaded or set. Raises ArgumentError for a value of another
    shape or dtype.
    """

    computes = "nothing"

    def __init__(self, out: QParams, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self._out = out
        self.shape = tuple(shape)
        self.register_buffer("_raw", torch.zeros(self.shape, dtype=out.dtype.storage), persistent=False)

    _raw: Tensor

    @property
    def value(self) -> QTensor:
        """The quantized tensor; it shares memory with the module."""
        return QTensor(self._raw, self._out, self._backend)

    @value.setter
    def value(self, value: Tensor) -> None:
        if not isinstance(value, QTensor) or value.shape != self.shape or value.qparams.dtype != self._out.dtype:
            wanted = f"a tensor of {self._out.dtype!r}, {self.shape}"
            raise ArgumentError(
                f"{self._label()}: its value must be {wanted}; got {value.dtype!r}, {tuple(value.shape)}"
            )
        self._raw, self._out = value.raw.detach(), value.qparams

    def forward(self) -> Tensor:  # type: ignore[override]
        """The tensor."""
        return self.value

    def _values(self) -> dict[str, Any]:
        return {**super()._values(), "value": self.value}

    def _set_values(self, values: dict[str, Any]) -> None:
        self.value = values["value"]

    def extra_repr(self) -> str:
        """Sizes, scale and zero point."""
        return f"{self.shape}, scale={self.scale}, zero_point={self.zero_point}"


class ScalarOperation(QuantizedModule):
    """x * factor + summand on a quantized x of any shape, then ReLU if asked: mostly only scale and zero point change.

    Raises QuantizationError for a float input, ArgumentError for one quantized per channel. Arithmetic:
    qcore.nn.quantized.scalar.
    """

    def __init__(self, factor: float = 1.0, summand: float = 0.0, relu: bool = False) -> None:
        super().__init__()
        self.factor = factor
        self.summand = summand
        self.relu = relu

    def operator(self) -> Operator:
        """Clamping, the only step that may need a kernel."""
        return ops.Clamp(low=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Quantized -> quantized, of the same shape."""
        if not isinstance(x, QTensor):
            self._refuse_input(x)
        if self.factor != 1:
            x = mul_scalar(x, self.factor, self.relu and self.summand == 0)
        if self.summand != 0:
            x = add_scalar(x, self.summand, self.relu)
        elif self.factor == 1 and self.relu:
            x = torch.relu(x)
        return x

    def extra_repr(self) -> str:
        """The numbers."""
        return f"factor={self.factor}, summand={self.summand}, relu={self.relu}"


class ReferenceModule(nn.Module):
    """A float layer that computes with the weights of its quantized form, which it holds as `quantized`.

    Float in, float out; it stands between a dequantize and a Quantize. Lowering puts `quantized` in its place.
    """

    def __init__(self, layer: nn.Module, quantized: QuantizedModule) -> None:
        super().__init__()
        self.layer = layer
        self.quantized = quantized

    def get_quantized_weight(self) -> QTensor | None:
        """The quantized weight; None for a layer without one."""
        weight: Any = getattr(self.quantized, "weight", None)
        weight = weight() if callable(weight) else weight
        return weight if isinstance(weight, QTensor) else None

    @property
    def weight(self) -> Tensor | None:
        """The numbers that the quantized weight stands for."""
        weight = self.get_quantized_weight()
        return None if weight is None else weight.dequantize()

    @property
    def bias(self) -> Tensor | None:
        """The float bias."""
        bias: Any = getattr(self.quantized, "bias", None)
        found: Tensor | None = bias() if callable(bias) else bias
        return found

    def forward(self, *inputs: Any) -> Any:
        """What the float layer gives, with the weights that the integers stand for."""
        weight = self.weight
        if weight is None:
            return self.layer(*inputs)
        named = self.layer.named_parameters()
        name = next((name for name, each in named if name.endswith("weight") and each.shape == weight.shape), None)
        if name is None:
            return self.layer(*inputs)
        return torch.func.functional_call(self.layer, {name: weight}, inputs)
