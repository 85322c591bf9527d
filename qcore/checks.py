"""Arguments that no kernel may see: they raise here, at build or at the call, and are named.

For backends: `check_operator` first thing in `build`, and `checked` around the kernel that it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor

from qcore.backend import Kernel
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.operators import (
    GRU,
    LSTM,
    Attention,
    Cat,
    Conv,
    FloatAdd,
    FloatFunction,
    FloatLayerNorm,
    GRUCell,
    Linear,
    LinearDynamic,
    LinearFp16,
    LSTMCell,
    Operator,
    Quantize,
    RNNCell,
)
from qcore.tensor.qparams import QParams, per_channel, per_tensor

_FLOATS: dict[type[Operator], int] = {
    Quantize: 1,
    LinearDynamic: 1,
    LinearFp16: 1,
    FloatFunction: 1,
    FloatAdd: 2,
    FloatLayerNorm: 1,
    LSTM: 3,
    GRU: 2,
    LSTMCell: 3,
    GRUCell: 2,
    RNNCell: 2,
    Attention: 3,
}
"""How many of the first arguments are float32."""


def checked(operator: Operator, kernel: Kernel) -> Kernel:
    """The kernel, with its tensors and parameters checked at each call."""

    def call(*args: Any) -> Any:
        for number, arg in enumerate(args):
            for item in arg if isinstance(arg, list | tuple) else (arg,):
                if isinstance(item, QParams):
                    check_qparams(item)
                elif isinstance(item, Tensor) and item.device.type != "cpu":
                    raise ArgumentTypeError(f"{operator.name}: argument {number} is on {item.device}, not on the CPU")
        for x in args[: _FLOATS.get(type(operator), 0)]:
            check_dtype(operator, x, torch.float32)
        for x, qx in _pairs(operator, args):
            check_dtype(operator, x, qx.dtype.storage)
        if isinstance(operator, Linear | LinearDynamic):
            _check_features(operator, args[0])
        if isinstance(operator, Conv):
            _check_reach(operator, args[0])
        return kernel(*args)

    return call


def check_operator(operator: Operator) -> None:
    """Raises ArgumentError or ArgumentTypeError for constants and attributes that make no sense."""
    weight, qweight = getattr(operator, "weight", None), getattr(operator, "qweight", None)
    if isinstance(weight, Tensor) and isinstance(qweight, QParams):
        check_qparams(qweight)
        check_dtype(operator, weight, qweight.dtype.storage)
    if isinstance(operator, Linear | LinearDynamic | Conv):
        _check_channels(operator, weight, operator.qweight)
    check_cells(operator)
    for attribute, low in (("kernel_size", 1), ("stride", 1), ("dilation", 1), ("padding", 0), ("output_size", 0)):
        values = getattr(operator, attribute, None) or ()
        if any(value is not None and value < low for value in values):
            raise ArgumentError(f"{operator.name}: {attribute}={values} must be at least {low} everywhere")


def _check_channels(operator: Linear | LinearDynamic | Conv, weight: Any, qweight: QParams) -> None:
    """Shape and device of the weight; a bias, scales and zero points for each of its channels."""
    ranks = (3, 4, 5) if isinstance(operator, Conv) else (2,)
    if not weight.numel():
        raise ArgumentError(f"{operator.name}: weight of shape {tuple(weight.shape)} has no elements")
    if weight.device.type != "cpu" or weight.ndim not in ranks:
        raise ArgumentError(f"{operator.name}: weight of shape {tuple(weight.shape)} on {weight.device} cannot be used")
    channels = weight.shape[0]
    if operator.bias is not None and tuple(operator.bias.shape) != (channels,):
        raise ArgumentError(f"{operator.name}: bias of shape {tuple(operator.bias.shape)}; it must be ({channels},)")
    if qweight.axis is not None and (qweight.axis != 0 or torch.as_tensor(qweight.scale).numel() != channels):
        raise ArgumentError(f"{operator.name}: weight parameters must be along axis 0, one for each of {channels}")
    if isinstance(operator, Conv):
        for attribute in ("stride", "padding", "dilation"):
            if len(getattr(operator, attribute)) not in (0, operator.spatial):
                raise ArgumentError(f"{operator.name}: {attribute} must have {operator.spatial} values")
        if operator.groups < 1 or channels % operator.groups:
            raise ArgumentError(f"{operator.name}: groups={operator.groups} do not divide {channels} channels")


def _check_features(operator: Linear | LinearDynamic, x: Tensor) -> None:
    features = operator.weight.shape[1]
    if not x.ndim or x.shape[-1] != features:
        raise ArgumentError(f"{operator.name}: x of shape {tuple(x.shape)}; its last dimension must be {features}")


def _check_reach(operator: Conv, x: Tensor) -> None:
    weight = operator.weight
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * operator.groups:
        raise ArgumentError(
            f"{operator.name}: x of shape {tuple(x.shape)}; it must have {weight.ndim} dimensions and "
            f"{weight.shape[1] * operator.groups} channels"
        )
    kernel, sizes = weight.shape[2:], x.shape[2:]
    padded = [n + 2 * pad for n, pad in zip(sizes, operator.padding or (0,) * len(sizes), strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(operator.dilation or (1,) * len(sizes), kernel, strict=True)]
    if any(r > n for r, n in zip(reach, padded, strict=True)):
        raise ArgumentError(f"{operator.name}: a kernel of {reach} does not fit into a padded input of {padded}")
    if prod(x.shape[:2]) * prod(padded) >= 2**31:
        raise ArgumentError(f"{operator.name}: padding={operator.padding} makes the input too large: {padded}")


def check_cells(operator: Operator) -> None:
    """Raises ArgumentError or ArgumentTypeError for weights of recurrent cells that are not all of one right kind."""
    for cell in getattr(operator, "cells", ()):
        for weight, qweight in ((cell.w_ih, cell.q_ih), (cell.w_hh, cell.q_hh)):
            if (qweight is None) != getattr(operator, "float16", False):
                raise ArgumentError(f"{operator.name}: weights must all have parameters, or all be float16 without")
            if qweight is not None:
                check_qparams(qweight)
            check_dtype(operator, weight, torch.float16 if qweight is None else qweight.dtype.storage)


def check_qparams(params: QParams) -> None:
    """Raises ArgumentError for a scale or zero point out of range."""
    if params.axis is None:
        per_tensor(params.scale, params.zero_point, params.dtype)
    else:
        per_channel(torch.as_tensor(params.scale), torch.as_tensor(params.zero_point), params.axis, params.dtype)


def _pairs(operator: Operator, args: tuple[Any, ...]) -> Iterator[tuple[Tensor, QParams]]:
    """Tensors with the parameters that belong to them."""
    pairs = zip(args[0], args[1], strict=True) if isinstance(operator, Cat) else pairwise(args)
    for x, qx in pairs:
        if isinstance(x, Tensor) and isinstance(qx, QParams) and not isinstance(operator, Quantize):
            yield x, qx


def check_dtype(operator: Operator, x: Any, dtype: torch.dtype) -> None:
    """Raises ArgumentTypeError for what is not a tensor of this dtype."""
    if not isinstance(x, Tensor) or x.dtype != dtype:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentTypeError(f"{operator.name}: got {got} where a tensor of {dtype} is needed")
