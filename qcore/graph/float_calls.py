"""What functions and modules on floats are in a graph: operators on floats, between those that are quantized."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.fx.patterns import Call, Unfit
from qcore.operators import Operator

FLOATS = (ops.FloatAdd, ops.FloatEmbedding, ops.FloatFunction, ops.FloatLayerNorm, ops.Attention)
"""Operators on floats; alone they are left to the module level."""

FloatMaker: TypeAlias = "Callable[[Call, Callable[[Any], Tensor | None]], Operator]"
"""From a call, and what looks up the tensor that an argument names, to its operator."""


def _function(name: str) -> FloatMaker:
    return lambda call, constant: ops.FloatFunction(name)


def _gelu(call: Call, constant: Any) -> Operator:
    approximate = call.option(1, "approximate", "none")
    return ops.FloatFunction("gelu_tanh" if approximate == "tanh" else "gelu")


def _layer_norm(call: Call, constant: Callable[[Any], Tensor | None]) -> Operator:
    if call.module is not None:
        weight, bias = call.module.weight, call.module.bias
    else:
        weight, bias = constant(call.get(2, "weight")), constant(call.get(3, "bias"))
    shape: Any = call.option(1, "normalized_shape")
    eps: Any = call.option(4, "eps", 1e-5)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or not all(isinstance(size, int) for size in sizes) or not isinstance(eps, float):
        raise Unfit("its normalized_shape or its eps is computed")
    for each in (weight, bias):
        if each is not None and (each.dtype != torch.float32 or tuple(each.shape) != sizes or not each.is_contiguous()):
            raise Unfit("its weight or its bias is not float32, or has another shape")
        if each is not None and not each.is_cpu:
            raise Unfit("its weight or its bias is not on the CPU")
    return ops.FloatLayerNorm(sizes, weight, bias, eps)


FLOAT_CALLS: dict[Any, FloatMaker] = {
    **dict.fromkeys((F.gelu, nn.GELU), _gelu),
    **dict.fromkeys((F.layer_norm, nn.LayerNorm), _layer_norm),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_", nn.ReLU), _function("relu")),
    **dict.fromkeys((F.silu, nn.SiLU), _function("silu")),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", nn.Sigmoid), _function("sigmoid")),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh", nn.Tanh), _function("tanh")),
}
"""Function, method or class of module -> its operator."""

SUMS: tuple[Any, ...] = (python.add, torch.add, "add")
"""Calls that add two tensors, where they are given nothing else."""


def embedding(module: nn.Embedding) -> ops.FloatEmbedding:
    """Of a table that its forward does not change."""
    weight = module.weight
    if module.max_norm is not None:
        raise Unfit("it normalizes its rows")
    is_plain = type(weight) is nn.Parameter and weight.dtype == torch.float32
    if not is_plain or not weight.is_contiguous() or not weight.is_cpu:
        raise Unfit("its weight is not float32, or not in one piece on the CPU")
    return ops.FloatEmbedding(weight)


def attention(call: Call) -> ops.Attention:
    """Of F.scaled_dot_product_attention, which may have a mask of floats."""
    if call.option(4, "dropout_p", 0.0) or call.option(7, "enable_gqa", False):
        raise Unfit("it drops elements, or repeats heads")
    scale = call.option(6, "scale", None)
    return ops.Attention(None if scale is None else float(scale), bool(call.option(5, "is_causal", False)))
