"""torch.ao.quantization.fuser_method_mappings: functions that fuse a sequence of modules into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from qcore.api.fuse_modules import fuse_known_modules
from qcore.errors import ArgumentError
from qcore.nn import catalog

__all__ = [
    "fuse_conv_bn",
    "fuse_conv_bn_relu",
    "fuse_convtranspose_bn",
    "fuse_known_modules",
    "fuse_linear_bn",
    "get_fuser_method",
]


def _fused(is_qat: bool, *modules: nn.Module) -> nn.Module:
    return fuse_known_modules(modules, is_qat)[0]


def fuse_conv_bn(is_qat: bool, conv: nn.Module, bn: nn.Module) -> nn.Module:
    """A convolution and its batch norm in one module; folded in eval mode. ArgumentError for mixed modes."""
    return _fused(is_qat, conv, bn)


def fuse_conv_bn_relu(is_qat: bool, conv: nn.Module, bn: nn.Module, relu: nn.Module) -> nn.Module:
    """A convolution, its batch norm and relu in one module; ArgumentError for mixed modes."""
    return _fused(is_qat, conv, bn, relu)


def fuse_linear_bn(is_qat: bool, linear: nn.Module, bn: nn.Module) -> nn.Module:
    """A Linear and its batch norm in one module; ArgumentError for mixed modes."""
    return _fused(is_qat, linear, bn)


def fuse_convtranspose_bn(is_qat: bool, convt: nn.Module, bn: nn.Module) -> nn.Module:
    """A transposed convolution with its batch norm folded in; ArgumentError for training."""
    if is_qat:
        raise ArgumentError("a transposed convolution and its batch norm are fused in eval mode only")
    return _fused(is_qat, convt, bn)


def get_fuser_method(
    op_list: Any,
    additional_fuser_method_mapping: dict[tuple[type[nn.Module], ...], Callable[..., nn.Module]] | None = None,
) -> Callable[..., nn.Module]:
    """The function(is_qat, *modules) that fuses modules of these classes; ArgumentError where there is none."""
    kinds = tuple(op_list)
    if additional_fuser_method_mapping and kinds in additional_fuser_method_mapping:
        return additional_fuser_method_mapping[kinds]
    if kinds not in {*catalog.fusions(), *catalog.FOLDED}:
        names = ", ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise ArgumentError(f"nothing fuses {names}; fuse_modules lists the sequences that are fused")
    return _fused
