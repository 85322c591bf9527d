"""What kernels share: fused multiply-add, the last step to uint8, and work in pieces on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
"""Without fastmath, so that nothing is fused or reordered; without the GIL, so that threads run at once."""


@intrinsic
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32 numbers, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@compiled
def to_uint8(value: np.float32, zero: int, low: int) -> int:
    """clamp(rint(value) + zero) to [low, 255]; clamped before it is an integer, and NaN goes to the upper end."""
    rounded = np.rint(value)
    if not rounded < 255 - zero:
        return 255
    if rounded < low - zero:
        return low
    return int(rounded) + zero


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "qcore_numba")


def in_pieces(count: int, least: int, work: Callable[[int, int], object]) -> None:
    """work(begin, end) for pieces of range(count), of at least `least`, on as many threads as torch may use."""
    pieces = max(1, min(torch.get_num_threads(), count // least))
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    if pieces == 1:
        work(0, count)
    else:
        list(_pool(os.getpid()).map(work, bounds[:-1], bounds[1:]))
