"""torch's own quantized kernels as the oracle of tests: integers and QParams in, integers out, under one engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from qcore.tensor.qparams import QParams

quantized = torch.ops.quantized


@contextmanager
def engine(name: str = "fbgemm") -> Iterator[None]:
    """Run the body under one of torch's engines, with its warnings silenced, and put the former engine back."""
    former = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = name
        try:
            yield
        finally:
            torch.backends.quantized.engine = former


def to_torch(raw: Tensor, params: QParams) -> Tensor:
    """torch's quantized tensor with these integers, in raw's memory format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if params.axis is None:
            return torch._make_per_tensor_quantized_tensor(raw, params.scale, params.zero_point)
        return torch._make_per_channel_quantized_tensor(raw, params.scale, params.zero_point, params.axis)


def run(function: Callable[..., Any], *args: Any, engine_name: str = "fbgemm", **kwargs: Any) -> Tensor:
    """Call one of torch's quantized functions under an engine; a quantized result comes back as its integers."""
    with engine(engine_name):
        result = function(*args, **kwargs)
        return result.int_repr() if result.is_quantized else result


@cache
def saturates() -> bool:
    """Whether torch's engine adds pairs of products in saturating int16, as it does on CPUs without VNNI."""
    weight = to_torch(torch.full((8, 64), 127, dtype=torch.int8), QParams(_qint8(), 1.0, 0))
    x = torch.full((1, 64), 255.0)
    exact = 64 * 255 * 127
    return bool((run(lambda: quantized.linear_dynamic(x, quantized.linear_prepack(weight), False)) != exact).any())


def summable(raw: Tensor) -> Tensor:
    """uint8 integers kept to 7 bits where torch's sums of their products with int8 weights saturate."""
    return raw.clamp(max=127) if saturates() and raw.dtype == torch.uint8 else raw


def missing() -> str:
    """Why there is no oracle here; empty where there is one."""
    if torch.torch_version.TorchVersion(torch.__version__) < (2, 13):
        return "docs/numerics.md describes torch 2.13, and some originals before it round otherwise"
    engines = getattr(torch.backends.quantized, "supported_engines", ())
    return "" if "fbgemm" in engines else "torch has no fbgemm engine here"


def vectorized() -> bool:
    """Whether torch uses its vector code, whose rounding is the rule (ATEN_CPU_CAPABILITY=default turns it off)."""
    return "AVX" in torch.backends.cpu.get_cpu_capability()


def _qint8() -> Any:
    from qcore.tensor.dtypes import qint8

    return qint8
