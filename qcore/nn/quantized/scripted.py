"""Quantized modules for torch.jit.script, which has no quantized tensors: floats go in and come out of each of them.

What a float stands for is known from the last call of the module: TorchScript sees no values. Floats between modules
lie where the integers would, so quantizing them again gives the same integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from qcore.errors import UnsupportedError
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor


@dataclass(frozen=True)
class Call:
    """Parameters and shapes of the quantized tensors that a module was called with, and a number beside them."""

    qparams: tuple[QParams, ...]
    shapes: tuple[tuple[int, ...], ...]
    setting: int | None


class Calls:
    """What a module was called with, by method; a second call must have the parameters of the first."""

    def __init__(self) -> None:
        self._calls: dict[str, Call | None] = {}

    def note(self, method: str, inputs: Sequence[QTensor], setting: int | None) -> None:
        """Keep a call."""
        qparams = tuple(each.qparams for each in inputs)
        if method not in self._calls:
            self._calls[method] = Call(qparams, tuple(tuple(each.shape) for each in inputs), setting)
            return
        first = self._calls[method]
        if first is not None and (first.qparams, first.setting) != (qparams, setting):
            self._calls[method] = None

    def of(self, method: str) -> Call:
        """The call of a method; UnsupportedError where there were several, with different parameters."""
        call = self._calls[method]
        if call is None:
            raise UnsupportedError(
                "torch.jit.script has no quantized tensors, and this was called with tensors of different scales: give "
                "each call a module of its own, or use torch.jit.trace for the model"
            )
        return call

    def methods(self) -> list[str]:
        """Methods that were called."""
        return list(self._calls)


_SCRIPTING: ContextVar[bool] = ContextVar("qcore_scripting", default=False)


@contextmanager
def scripting() -> Iterator[None]:
    """Within it, torch.jit.script may put other modules in the places of quantized ones."""
    token = _SCRIPTING.set(True)
    try:
        yield
    finally:
        _SCRIPTING.reset(token)


def is_scripting() -> bool:
    """Whether a model is being scripted."""
    return _SCRIPTING.get()


def check_scripting() -> None:
    """UnsupportedError outside of `scripting`: torch.jit.script would leave its stand-ins in the model."""
    if not is_scripting():
        raise UnsupportedError(
            "torch.jit.script would replace quantized modules in place and so change this model: use qcore.script"
        )


class OnFloats(nn.Module):
    """One method of a quantized module, between a quantize and a dequantize."""

    def __init__(self, module: nn.Module, call: Call, backend: str | None, method: str) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.backend = backend
        self.method = method

    def forward(self, *inputs: Any) -> Any:
        """Floats, or one list of them, of the shapes that the method takes -> float32."""
        is_list = isinstance(inputs[0], list | tuple)
        floats = inputs[0] if is_list else inputs
        given = [quantize(x, qparams, self.backend) for x, qparams in zip(floats, self.call.qparams, strict=True)]
        if self.method == "forward":
            result = self.module(*given)
        elif is_list:
            result = getattr(self.module, self.method)(given, self.call.setting)
        else:
            result = getattr(self.module, self.method)(*given)
        return tree_map(lambda each: each.dequantize() if isinstance(each, QTensor) else each, result)


def on_floats(module: Any, calls: Calls, method: str = "forward") -> Any:
    """The trace of a method for any input like that of the call there was; `Uncalled` where there was none.

    Raises UnsupportedError, naming the module, for calls with different parameters.
    """
    if method not in calls.methods():
        return Uncalled(module._label())
    try:
        call = calls.of(method)
    except UnsupportedError as error:
        raise UnsupportedError(f"{module._label()}: {error}") from None
    floats = [torch.zeros(shape, dtype=torch.float32) for shape in call.shapes]
    example = tuple(floats) if call.setting is None else (floats,)
    with torch.no_grad():
        whole = OnFloats(module, call, module.backend, method)
        return torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]


class ScriptedFunctional(nn.Module):
    """QFunctional on floats: its methods in TorchScript, each the trace of the call that there was."""

    def __init__(self, functional: Any, calls: Calls) -> None:
        super().__init__()
        self.problem = _not_called(functional._label())
        self.called = {method: method in calls.methods() for method in ("add", "add_relu", "mul", "matmul", "cat")}
        self.call_add = _traced(functional, calls, "add")
        self.call_add_relu = _traced(functional, calls, "add_relu")
        self.call_mul = _traced(functional, calls, "mul")
        self.call_matmul = _traced(functional, calls, "matmul")
        self.dim = _dim(calls)
        self.call_cat = _traced(functional, calls, "cat")

    def _check(self, method: str) -> None:
        if not self.called[method]:
            raise RuntimeError(self.problem)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y."""
        self._check("add")
        result: Tensor = self.call_add(x, y)
        return result

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """relu(x + y)."""
        self._check("add_relu")
        result: Tensor = self.call_add_relu(x, y)
        return result

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        """x * y."""
        self._check("mul")
        result: Tensor = self.call_mul(x, y)
        return result

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """x @ y."""
        self._check("matmul")
        result: Tensor = self.call_matmul(x, y)
        return result

    def cat(self, x: list[Tensor], dim: int = 0) -> Tensor:
        """The tensors of x joined along dim."""
        self._check("cat")
        if dim != self.dim:
            raise RuntimeError(self.problem)
        result: Tensor = self.call_cat(x)
        return result

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """x + y; what quantizes the result knows its scale, and rounds it there."""
        return x + y

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """x * y."""
        return x * y


def _traced(functional: Any, calls: Calls, method: str) -> Any:
    if method in calls.methods():
        return on_floats(functional, calls, method)
    return _NeverMany() if method == "cat" else _Never()


def _dim(calls: Calls) -> int:
    return (calls.of("cat").setting or 0) if "cat" in calls.methods() else 0


def _not_called(label: str) -> str:
    return (
        f"torch.jit.script sees no values, and {label} was not called so before: run the model once on an example, "
        "then script it"
    )


class Uncalled(nn.Module):
    """In the place of a module that was not called, such as the auxiliary head of a net in eval mode."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.problem = _not_called(label)

    def forward(self, x: Tensor) -> Tensor:
        """RuntimeError: which scales its input has is not known."""
        raise RuntimeError(self.problem)


class _Never(nn.Module):
    """In the place of a method that was not called."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class _NeverMany(nn.Module):
    """In the place of a method of a list that was not called."""

    def forward(self, x: list[Tensor]) -> Tensor:
        return x[0]
