"""Folding a batch norm with fixed statistics into the layer before it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from qcore.nn.intrinsic.fused import FusedModule
from qcore.nn.qat.base import QATModule
from qcore.nn.weights import settled

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_norm(layer: Any, norm: Any) -> nn.Module:
    """A copy of the convolution or Linear that computes what both do in eval mode."""
    layer = settled(layer)
    modes = layer.training, norm.training
    layer.eval()
    norm.eval()
    try:
        if isinstance(layer, nn.Linear):
            folded: nn.Module = fuse_linear_bn_eval(layer, norm)
        elif isinstance(layer, _TRANSPOSED) and layer.groups > 1:
            folded = _folded_groups(layer, norm)
        else:
            folded = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, _TRANSPOSED))
    finally:
        layer.train(modes[0])
        norm.train(modes[1])
    return folded.train(modes[0])


def _folded_groups(layer: Any, norm: Any) -> nn.Module:
    """For transposed convolutions in groups, whose weights are (inputs, outputs of a group, ...)."""
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        factor = torch.rsqrt(norm.running_var + norm.eps)
        factor = factor if norm.weight is None else factor * norm.weight
        bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        bias = bias * factor
        per_input = factor.view(layer.groups, -1).repeat_interleave(layer.in_channels // layer.groups, 0)
        folded.weight = nn.Parameter(layer.weight * per_input.view(*per_input.shape, *[1] * (layer.weight.ndim - 2)))
        folded.bias = nn.Parameter(bias if norm.bias is None else bias + norm.bias)
    return folded  # type: ignore[no-any-return]


def first_layer(module: nn.Module) -> nn.Module:
    """The layer with weights of a module, fused or not."""
    return module[0] if isinstance(module, FusedModule) else module


def core_layer(module: nn.Module) -> nn.Module:
    """The one layer with weights that a module, fused or not, amounts to; batch norms after it are folded in.

    Its weights are parameters, whatever makes them.
    """
    module = settled(module)
    if isinstance(module, QATModule):
        module = module.to_float()
    if not isinstance(module, FusedModule):
        return module
    layer: nn.Module = module[0]
    for part in list(module)[1:]:
        if isinstance(part, _NORMS):
            layer = fold_norm(layer, part)
    return layer


def float_form(module: nn.Module) -> nn.Module:
    """A float module that computes what the quantized one does, but for rounding."""
    to_float = getattr(module, "to_float", None)
    module = to_float() if callable(to_float) else module
    core = core_layer(module)
    if core is not module and isinstance(list(module.children())[-1], nn.ReLU):
        return nn.Sequential(core, nn.ReLU())
    return core
