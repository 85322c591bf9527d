"""Classes that a checkpoint can name, and the arguments that make a module of one again."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.overrides import TorchFunctionMode

from qcore.api._saving.tables import EmbeddingBag
from qcore.api._saving.types import fits, hints
from qcore.errors import ArgumentError
from qcore.fx import modules as fx_modules
from qcore.fx.modules import ReferenceModule
from qcore.nn import quantizable as nnqa
from qcore.nn import quantized as nnq
from qcore.nn.intrinsic import quantized as nniq
from qcore.nn.intrinsic.quantized import dynamic as nniqd
from qcore.nn.quantized import dynamic as nnqd
from qcore.nn.stubs import DeQuantStub, QuantStub
from qcore.operators import Operator

Kind = type[nn.Module]

_PACKAGES: tuple[Any, ...] = (nnq, nniq, nnqd, nniqd, nnqa)
_BARE: tuple[Kind, ...] = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
_LOSSES = tuple(kind for name, kind in vars(nn).items() if name.endswith("Loss"))
_LEFT_OUT_KINDS = (nn.DataParallel, nn.SyncBatchNorm, nn.ParameterList, nn.ParameterDict, *_LOSSES)
"""Classes of torch.nn whose constructors want more than values, or a device of their own, and what only training calls,
some of which reads wherever its arguments say."""


@cache
def known() -> dict[str, Kind]:
    """Every class that can be made again without the caller's model, by its name in files: ours and torch.nn's."""
    found: dict[str, Kind] = {}
    for package in _PACKAGES:
        for name in package.__all__:
            kind = getattr(package, name)
            if isinstance(kind, type) and issubclass(kind, nn.Module):
                found[f"{package.__name__}.{name}"] = kind
    found |= {
        f"qcore.fx.{kind.__name__}": kind
        for kind in (fx_modules.Operation, fx_modules.ScalarOperation, fx_modules.Constant, ReferenceModule)
    }
    found |= {f"qcore.{kind.__name__}": kind for kind in (QuantStub, DeQuantStub)}
    layers = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    layers = {kind for kind in layers if not issubclass(kind, (LazyModuleMixin, *_LEFT_OUT_KINDS))}
    return found | {f"torch.nn.{kind.__name__}": kind for kind in layers if kind.__module__.startswith("torch.nn.")}


@cache
def _names() -> dict[Kind, str]:
    found = {kind: name for name, kind in reversed(known().items())}
    return found | {EmbeddingBag: found[nn.EmbeddingBag]}


def name_of(module: nn.Module) -> str:
    """The name of a module's class in files."""
    kind = type(module)
    return _names().get(kind, f"{kind.__module__}.{kind.__qualname__}")


def arguments(module: nn.Module) -> dict[str, Any] | None:
    """What to call the module's class with to have another like it, weights aside; None where that is not known."""
    kind = type(module)
    if kind not in _names():
        return None
    if kind in _BARE or kind in (ReferenceModule, QuantStub, DeQuantStub) or kind.__init__ is nn.Module.__init__:
        return {}
    found: dict[str, Any] = {}
    called: Any = kind
    for name, parameter in _parameters(called).items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return None
        if name in _LEFT_OUT or name.startswith("_"):
            continue
        value = _argument(module, name, isinstance(parameter.default, bool))
        if value is _MISSING:
            return None
        if value is not _DEFAULT:
            found[name] = value
    return found


@cache
def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


class Budget:
    """How many elements the modules of one file may be made with: some more than its tensors have.

    `elements`: how many those have, and what is small at any rate.
    """

    def __init__(self, elements: int) -> None:
        self.elements = max(elements, 2**16)
        self._left = 16 * self.elements + 2**22  # modules that hold others make them too, and these are made again

    def take(self, count: int) -> None:
        """ArgumentError where it is used up; a tensor counts however small it is, as making it takes time."""
        self._left -= max(count, 256)
        if self._left < 0:
            raise ArgumentError("its arguments make more elements than all tensors of the file have")


def made(kind: Kind, given: dict[str, Any], budget: Budget) -> nn.Module:
    """A module by its constructor, those of torch on the meta device; ArgumentError for arguments of other types than
    it says, or ones that make more than the budget has."""
    if kind is ReferenceModule:
        bare = kind.__new__(kind)
        nn.Module.__init__(bare)
        return bare
    called: Any = kind
    wanted, parameters = hints(kind), _parameters(called)
    of_torch = kind.__module__.startswith("torch.")
    for name, value in given.items():
        if name not in parameters or name in _LEFT_OUT or (kind in _BARE and kind is not nn.Identity):
            raise ArgumentError(f"{name[:60]!r} is none of its arguments")
        if name in wanted and not fits(value, wanted[name]):
            raise ArgumentError(f"{name} is a {type(value).__name__}: {str(value)[:60]}")
        most = 2**31 if of_torch else budget.elements
        if max(_numbers(value), default=0) > most:
            raise ArgumentError(f"{name}={str(value)[:60]} is more than all tensors of the file have elements")
    try:
        with torch.device("meta" if of_torch else "cpu"), Bounded(budget):
            return kind(**given)
    except ArgumentError:
        raise
    except Exception as error:  # whatever the constructors of torch, and ours, make of values of the right types
        raise ArgumentError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _numbers(value: Any) -> list[int]:
    """The sizes of all whole numbers in a value."""
    if isinstance(value, tuple | list):
        return [number for each in value for number in _numbers(each)]
    if isinstance(value, Operator):
        return [number for field in fields(value) for number in _numbers(getattr(value, field.name))]
    return [abs(value)] if type(value) is int else []


class Bounded(TorchFunctionMode):
    """Within it, functions of torch make so many elements at most, all together."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MAKERS:
            sizes = args[:1] if func is torch.full else args
            self._budget.take(math.prod(_numbers((sizes, (kwargs or {}).get("size", ())))))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and func not in _MAKERS:
            self._budget.take(result.numel())
        return result


_MAKERS = (torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn, torch.arange)

_LEFT_OUT = ("device", "factory_kwargs", "min_value", "max_value")
_MISSING, _DEFAULT = object(), object()


def _argument(module: Any, name: str, is_flag: bool) -> Any:
    special = _SPECIAL.get(name)
    if special is not None:
        return special(module)
    value = getattr(module, name, _UNUSED.get(name, _MISSING))
    if inspect.ismethod(value):
        value = value()
    return value is not None if is_flag and not isinstance(value, bool) and value is not _MISSING else value


_UNUSED = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False, "proj_size": 0}
"""Arguments that some of our classes take only since the float class has them."""


def _dtype(module: Any) -> Any:
    if isinstance(module, nnq.Embedding):
        return module._qweight.dtype
    if getattr(module, "float16", False):
        return torch.float16
    given = getattr(module, "dtype", None)
    return _DEFAULT if given is None or isinstance(module, nnq.Linear) else given


def _bias(module: Any) -> Any:
    """A flag of most classes, a tensor of our norms."""
    if isinstance(module, nnqa.MultiheadAttention):
        module = module.linear_Q
    if isinstance(module, nn.MultiheadAttention):
        return module.in_proj_bias is not None
    value = module.bias() if callable(module.bias) else module.bias
    is_tensor_wanted = isinstance(module, nnq.LayerNorm | nnq.GroupNorm | nnq.InstanceNorm1d.__mro__[1])
    return value if is_tensor_wanted or isinstance(value, bool) else isinstance(value, Tensor)


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "dtype": _dtype,
    "bias": _bias,
    "bias_": lambda module: module._bias is not None,
    "scale": lambda module: float(module.scale) if hasattr(module, "_out") else module.scale,
    "zero_point": lambda module: int(module.zero_point),
    "output_scale": lambda module: module.scale,
    "output_zero_point": lambda module: module.zero_point,
    "out": lambda module: module._out,
    "add_bias_kv": lambda module: module.bias_k is not None,
    "split_gates": lambda module: module.layers[0].layer_fw.cell.split_gates if hasattr(module, "layers") else _DEFAULT,
}
