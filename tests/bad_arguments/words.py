"""The words of the expressions in the tables of this folder, beside `it`, `name` and `rank`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import qcore
from qcore import api
from qcore.api import observer, qconfig

NAN, INF = float("nan"), float("inf")
ONES, ZEROS = torch.ones(4), torch.zeros(4)


def quantized(*shape: int, dtype: Any = qcore.quint8) -> qcore.QTensor:
    return qcore.quantize_per_tensor(torch.randn(shape), 0.05, 113 if dtype == qcore.quint8 else 0, dtype)


def by_channel(*shape: int, axis: int = 0) -> qcore.QTensor:
    ones = torch.ones(shape[axis])
    return qcore.quantize_per_channel(torch.randn(shape), ones, 0 * ones.int(), axis, qcore.qint8)


def rows(*shape: int) -> qcore.QTensor:
    """A table of embeddings."""
    ones = torch.ones(shape[0])
    return qcore.quantize_per_channel(torch.randn(shape), ones, 0 * ones, 0, qcore.quint8)


def image(rank: int, channels: int = 4, size: int = 5) -> qcore.QTensor:
    return quantized(2, channels, *(size,) * rank)


def weight(shape: tuple[int, ...]) -> qcore.QTensor:
    return quantized(*shape, dtype=qcore.qint8)


def assign(module: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(module, name, value)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4)).eval()


def with_qconfig(given: Any) -> nn.Module:
    model = small()
    model.qconfig = given
    return model


def after(module: Any, *inputs: Tensor) -> Any:
    """The module after these inputs."""
    for x in inputs:
        module(x)
    return module


def frozen(module: Any, *inputs: Tensor, scale: float) -> Any:
    """A fake-quantize module that observes no more, with this scale."""
    after(module, *inputs).disable_observer()
    module.scale.fill_(scale)
    return module


WORDS = {
    **{name: value for name, value in globals().items() if callable(value) or isinstance(value, float | Tensor)},
    "api": api,
    "nn": nn,
    "observer": observer,
    "qconfig": qconfig,
    "torch": torch,
    "qint8": qcore.qint8,
    "quint8": qcore.quint8,
    "qint32": qcore.qint32,
    "randn": torch.randn,
}
