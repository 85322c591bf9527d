"""Classes that a checkpoint can name, and the arguments that make a module of one again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from qcore.fx import modules as fx_modules
from qcore.nn import quantizable as nnqa
from qcore.nn import quantized as nnq
from qcore.nn.intrinsic import quantized as nniq
from qcore.nn.intrinsic.quantized import dynamic as nniqd
from qcore.nn.quantized import dynamic as nnqd

Kind = type[nn.Module]

_PACKAGES: tuple[Any, ...] = (nnq, nniq, nnqd, nniqd, nnqa)
_BARE: tuple[Kind, ...] = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)


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
        for kind in (fx_modules.Operation, fx_modules.ScalarOperation, fx_modules.Constant)
    }
    layers = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    return found | {f"torch.nn.{kind.__name__}": kind for kind in layers if kind.__module__.startswith("torch.nn.")}


@cache
def _names() -> dict[Kind, str]:
    return {kind: name for name, kind in reversed(known().items())}


def name_of(module: nn.Module) -> str:
    """The name of a module's class in files."""
    kind = type(module)
    return _names().get(kind, f"{kind.__module__}.{kind.__qualname__}")


def arguments(module: nn.Module) -> dict[str, Any] | None:
    """What to call the module's class with to have another like it, weights aside; None where that is not known."""
    kind = type(module)
    if kind not in _names():
        return None
    if kind in _BARE:
        return {}
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
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


_LEFT_OUT = ("device", "factory_kwargs")
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
    value = module.bias() if inspect.ismethod(module.bias) else module.bias
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
