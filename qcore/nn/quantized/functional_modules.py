"""Arithmetic between quantized activations as a module, which has the scale and zero point of its results."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qcore import operators as ops
from qcore.binding import shared_kernel
from qcore.errors import ArgumentTypeError, NotCalibratedError, QuantizationError
from qcore.nn.float_functional import FloatFunctional, FXFloatFunctional
from qcore.nn.quantized.matmul import matmul
from qcore.nn.quantized.scalar import add_scalar, mul_scalar
from qcore.nn.quantized.scripted import Calls, ScriptedFunctional, check_scripting
from qcore.nn.quantized.static import StaticOutput
from qcore.tensor.arguments import check_broadcast, check_cat
from qcore.tensor.dtypes import QDType
from qcore.tensor.qtensor import QTensor

__all__ = ["FXFloatFunctional", "FloatFunctional", "QFunctional"]


class QFunctional(StaticOutput):
    """add, mul, matmul, cat, add_relu on quantized tensors, with one scale and zero point for the results.

    Made from FloatFunctional. Operands may be of different parameters, and of shapes that broadcast. Raises
    QuantizationError for float operands. Arithmetic: docs/numerics.md, "add", "mul", "matmul", "cat".
    """

    computes = "add, mul, matmul, cat"

    def __init__(self) -> None:
        super().__init__()
        self._init_output()
        self._uncalibrated = ""
        self.activation_post_process: nn.Module = nn.Identity()

    def _take_activation(self, mod: nn.Module) -> None:
        try:
            super()._take_activation(mod)
        except NotCalibratedError as error:
            # models hold some that their forward never calls; that is an error only when one is called
            self._uncalibrated = str(error)

    def forward(self, input: Tensor) -> NoReturn:
        """Not meant to be called: QuantizationError names the methods."""
        raise QuantizationError("QFunctional is not called itself; use its methods add, mul, cat, add_relu, ...")

    def operator(self) -> ops.Operator:
        """Addition stands for all: which operator runs is known when a method is called."""
        return ops.Add()

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y."""
        return self._binary(ops.Add(), x, y, "add")

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """relu(x + y)."""
        return self._binary(ops.Add(relu=True), x, y, "add_relu")

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        """x * y."""
        return self._binary(ops.Mul(), x, y, "mul")

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """x + y for a number y; the result has parameters made from x's."""
        return add_scalar(self._taken(x), y)

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """x * y for a number y; the result has parameters made from x's."""
        return mul_scalar(self._taken(x), y)

    def cat(self, x: list[Tensor], dim: int = 0) -> Tensor:
        """The tensors of x joined along dim."""
        if not isinstance(x, list | tuple) or not x:
            raise ArgumentTypeError(f"{self._label()}: cat needs a list of at least one tensor; got {x!r}")
        tensors = [self._quantized(each) for each in x]
        if not torch._C._is_tracing():  # sizes are tensors then
            check_cat("cat", [each.raw.shape for each in tensors], dim)
        self._note("cat", *tensors, setting=dim)
        kernel = shared_kernel(self._backend, ops.Cat(dim), (tensors[0].qparams.dtype, self._out.dtype))
        raw = kernel([each.raw for each in tensors], [each.qparams for each in tensors], self._out)
        return QTensor(raw, self._out, self._backend)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """x @ y, for shapes as of torch.matmul."""
        a, b = self._quantized(x), self._quantized(y)
        self._note("matmul", a, b)
        return matmul(a, b, self._out, self._backend)

    def _binary(self, operator: ops.Operator, x: Tensor, y: Tensor, method: str) -> QTensor:
        a, b = self._quantized(x), self._quantized(y)
        if not torch._C._is_tracing() and a.raw.shape != b.raw.shape:
            check_broadcast(method, a.raw.shape, b.raw.shape)
        self._note(method, a, b)
        dtypes: tuple[QDType, ...] = (a.qparams.dtype, b.qparams.dtype, self._out.dtype)
        kernel = shared_kernel(self._backend, operator, dtypes)
        return QTensor(kernel(a.raw, a.qparams, b.raw, b.qparams, self._out), self._out, self._backend)

    def _quantized(self, tensor: Tensor) -> QTensor:
        if self._uncalibrated:
            raise NotCalibratedError(self._uncalibrated)
        return self._taken(tensor)

    def _taken(self, tensor: Tensor) -> QTensor:
        if isinstance(tensor, QTensor):
            return tensor
        return self._refuse_input(tensor)

    def __prepare_scriptable__(self) -> Any:
        """For torch.jit.script: its methods on floats."""
        check_scripting()
        return ScriptedFunctional(self, self._calls or Calls())

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "uncalibrated": self._uncalibrated}

    def _set_options(self, options: dict[str, Any]) -> None:
        super()._set_options(options)
        self._uncalibrated = str(options.get("uncalibrated", ""))

    def _get_name(self) -> str:
        return "QFunctional"

    def extra_repr(self) -> str:
        """Scale and zero point."""
        return f"scale={self.scale}, zero_point={self.zero_point}"
