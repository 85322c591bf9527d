"""Sizes of pooling and resampling, checked before they reach a kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qcore.errors import ArgumentError
from qcore.tensor.qtensor import QTensor

Sizes: TypeAlias = tuple[int, ...]

_LARGEST = 2**31 - 1


def sizes(name: str, argument: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """One whole number for each of `rank` dimensions, from one for all or a sequence; ArgumentError for others."""
    parts = _parts(value)
    parts = parts * rank if len(parts) == 1 else parts
    whole = all(isinstance(part, int) and not isinstance(part, bool) and least <= part <= _LARGEST for part in parts)
    if not whole or len(parts) != rank:
        raise ArgumentError(f"{name}: {argument}={value!r} must be {rank} whole numbers of at least {least}, or one")
    return parts


def _parts(value: Any) -> tuple[Any, ...]:
    """One value, or those of a sequence; sizes that a trace or an export follows are those of its example."""
    parts = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return tuple(_of_the_example(part) for part in parts)


def _of_the_example(part: Any) -> Any:
    if isinstance(part, torch.SymInt | torch.SymFloat):
        return int(part) if isinstance(part, torch.SymInt) else float(part)
    followed = isinstance(part, Tensor) and part.ndim == 0 and torch._C._is_tracing()  # torch.jit.trace has tensors
    return part.item() if followed else part


def shaped(x: QTensor, name: str, rank: int) -> None:
    """ArgumentError unless x is (batch, channels, *spatial) or (channels, *spatial), empty at most in its batch."""
    shape = tuple(x.raw.shape)
    if len(shape) not in (rank + 1, rank + 2) or 0 in shape[len(shape) - rank - 1 :]:
        raise ArgumentError(
            f"{name} takes an input shaped ([batch,] channels{', size' * rank}), empty only in its batch; got {shape}"
        )


def window(
    x: QTensor, name: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    """Kernel size, stride, padding and dilation for each dimension; `stride` None or empty: the kernel size.

    Raises ArgumentError for other sizes, for padding above half of the kernel, and a kernel above the padded input.
    """
    shaped(x, name, rank)
    kernel = sizes(name, "kernel_size", kernel_size, rank, 1)
    steps = kernel if stride is None or stride == () or stride == [] else sizes(name, "stride", stride, rank, 1)
    pad, spread = sizes(name, "padding", padding, rank, 0), sizes(name, "dilation", dilation, rank, 1)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise ArgumentError(f"{name}: padding={padding!r} must be at most half of kernel_size={kernel_size!r}")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True))
    inside = tuple(n + 2 * p for n, p in zip(x.raw.shape[-rank:], pad, strict=True))
    if any(r > n for r, n in zip(reach, inside, strict=True)):
        raise ArgumentError(f"{name}: a window of {reach} does not fit into the padded input of {inside}")
    return kernel, steps, pad, spread


def scales(name: str, value: Any, spatial: Sequence[int]) -> tuple[float, ...]:
    """One factor for each spatial dimension; ArgumentError unless finite, positive, with a result of sane size."""
    parts = _parts(value)
    parts = parts * len(spatial) if len(parts) == 1 else parts
    right = all(isinstance(part, int | float) and math.isfinite(part) and part > 0 for part in parts)
    if not right or len(parts) != len(spatial) or any(n * f > _LARGEST for n, f in zip(spatial, parts, strict=True)):
        raise ArgumentError(
            f"{name}: scale_factor={value!r} must be {len(spatial)} positive, finite numbers, or one, and the "
            f"result at most {_LARGEST} in each dimension"
        )
    return tuple(float(part) for part in parts)


def numbers(name: str, **arguments: Any) -> tuple[float, ...]:
    """Arguments as floats; ArgumentError, naming it, for one that is no number, or NaN."""
    for argument, value in arguments.items():
        if not isinstance(value, int | float) or math.isnan(value):
            raise ArgumentError(f"{name}: {argument}={value!r} must be a number, not NaN")
    return tuple(float(value) for value in arguments.values())
