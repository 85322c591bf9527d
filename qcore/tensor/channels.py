"""Where the channels of a per-channel tensor go when its elements move: to which axis, and which are left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qcore.errors import UnsupportedError
from qcore.tensor.qparams import QParams


def follow(before: Tensor, after: Tensor, qparams: QParams, move: Callable[[Tensor], Tensor], name: str) -> QParams:
    """Parameters of `after`, which `move` made out of the elements of `before`, quantized per channel with `qparams`.

    A single channel that is left of several makes the result per tensor. Raises UnsupportedError when channels end up
    on no single axis. Each element's channel number is sent through `move` too, so this holds for every operator.
    """
    axis, scales, zero_points = qparams.axis, qparams.scale, qparams.zero_point
    assert axis is not None and isinstance(scales, Tensor) and isinstance(zero_points, Tensor)
    if after.shape == before.shape and name in _KEEPING:
        return qparams
    if scales.numel() == 1 and axis < after.ndim and after.shape[axis] == 1:
        return qparams
    moved = move(_numbered(before, axis))
    if moved.numel() == 0 or bool((moved == moved.flatten()[0]).all()):
        if zero_points.is_floating_point():
            raise UnsupportedError(
                f"{name} leaves one channel, with a float zero point: no per-tensor scheme; dequantize() first"
            )
        channel = int(moved.flatten()[0]) if moved.numel() else 0
        return QParams(qparams.dtype, scales[channel].item(), int(zero_points[channel]), None)
    for candidate in range(moved.ndim):
        line = moved
        for dim in reversed([d for d in range(moved.ndim) if d != candidate]):
            line = line.select(dim, 0)
        if bool((moved == line.view([-1 if d == candidate else 1 for d in range(moved.ndim)])).all()):
            return QParams(qparams.dtype, scales[line].clone(), zero_points[line].clone(), candidate)
    raise UnsupportedError(
        f"{name} would spread the channels of axis {axis} over several axes, from shape {tuple(before.shape)} to "
        f"{tuple(after.shape)}; dequantize() first, or quantize per tensor"
    )


_KEEPING = ("aten::detach", "aten::alias", "aten::clone", "aten::view", "aten::lift_fresh", "aten::expand")


def _numbered(like: Tensor, axis: int) -> Tensor:
    """Each element's channel number, in `like`'s memory layout, on which the same views can be taken."""
    sizes = [1 if stride == 0 else size for size, stride in zip(like.shape, like.stride(), strict=True)]
    numbers = torch.empty_strided(sizes, like.stride(), dtype=torch.int64, device=like.device)
    channels = torch.arange(like.shape[axis], device=like.device)
    numbers.copy_(channels.view([-1 if dim == axis else 1 for dim in range(like.ndim)]))
    return numbers.expand(like.shape)
