"""One ready instance of every quantized module, with an input for it; weights drawn, scales out of the ordinary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import qcore
from qcore.api import qconfig as qconfigs
from qcore.api.observer import MinMaxObserver
from qcore.nn import intrinsic as nni
from qcore.nn import quantized as nnq
from qcore.nn.catalog import mapping

Q = qcore.quantize_per_tensor


@dataclass(frozen=True)
class Sample:
    """How to make a float module, and inputs of the quantized one."""

    stage: str
    module: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]

    def build(self) -> nn.Module:
        """The quantized module, on the reference backend, made by `from_float` with an observer that saw data."""
        return swapped(self.module(), self.stage)


def swapped(module: Any, stage: str, qconfig: Any = None, observer: Any = None) -> nn.Module:
    """A float module turned into its quantized form, the way convert does it; `observer` saw its output."""
    embedding = isinstance(module, nn.Embedding | nn.EmbeddingBag)
    usual = qconfigs.default_per_channel_qconfig if stage == "static" else qconfigs.per_channel_dynamic_qconfig
    module.qconfig = qconfig or (qconfigs.float_qparams_weight_only_qconfig if embedding else usual)
    module.qcore_backend = "reference"
    module.qcore_path = "some.path"
    if observer is None:
        observer = MinMaxObserver(dtype=qcore.quint8)
        observer(torch.tensor([-1.7, 2.9]))
    module.activation_post_process = observer
    return mapping(stage)[type(module)].from_float(module).eval()


def quantized(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (Q(torch.randn(shape), 0.05, 113, qcore.quint8),)


def floats(*shapes: tuple[int, ...]) -> Callable[[], tuple[Any, ...]]:
    return lambda: tuple(torch.randn(shape) for shape in shapes)


def settled(norm: Any) -> Any:
    """A batch norm with statistics of its own."""
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def _prelu():
    """Slopes up to 1, by which torch multiplies positive numbers, quantized like the slopes: so it must be exact."""
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.3, 0.6, 1.0])[torch.randperm(3)])
    return module


STATIC: dict[type[nn.Module], tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]]]] = {
    qcore.QuantStub: (qcore.QuantStub, floats((2, 3))),
    qcore.DeQuantStub: (qcore.DeQuantStub, quantized(2, 3)),
    nn.Linear: (lambda: nn.Linear(5, 4), quantized(2, 3, 5)),
    nni.LinearReLU: (lambda: nni.LinearReLU(nn.Linear(5, 4, bias=False), nn.ReLU()), quantized(3, 5)),
    nni.LinearBn1d: (lambda: nni.LinearBn1d(nn.Linear(5, 4), settled(nn.BatchNorm1d(4))), quantized(3, 5)),
    nn.ReLU6: (nn.ReLU6, quantized(2, 3)),
    nn.Hardswish: (nn.Hardswish, quantized(2, 3)),
    nn.ELU: (lambda: nn.ELU(0.5), quantized(2, 3)),
    nn.LeakyReLU: (lambda: nn.LeakyReLU(0.3), quantized(2, 3)),
    nn.PReLU: (_prelu, quantized(2, 3)),
    nn.Embedding: (lambda: nn.Embedding(7, 8), lambda: (torch.tensor([[0, 3], [6, 6]]),)),
    nn.EmbeddingBag: (
        lambda: nn.EmbeddingBag(7, 8, mode="sum"),
        lambda: (torch.tensor([1, 5, 6]), torch.tensor([0, 2])),
    ),
    nn.LayerNorm: (lambda: nn.LayerNorm((3, 4)), quantized(2, 3, 4)),
    nn.GroupNorm: (lambda: nn.GroupNorm(2, 4), quantized(2, 4, 5)),
}
for _rank in (1, 2, 3):
    _size = (2, 4, *(5, 6, 7)[:_rank])
    _conv, _deconv = getattr(nn, f"Conv{_rank}d"), getattr(nn, f"ConvTranspose{_rank}d")
    _norm, _instance = getattr(nn, f"BatchNorm{_rank}d"), getattr(nn, f"InstanceNorm{_rank}d")
    _make = lambda conv=_conv: conv(4, 6, 3, padding=1, groups=2)  # noqa: E731
    _fused = {
        f"ConvReLU{_rank}d": lambda make=_make: (make(), nn.ReLU()),
        f"ConvBn{_rank}d": lambda make=_make, norm=_norm: (make(), settled(norm(6))),
        f"ConvBnReLU{_rank}d": lambda make=_make, norm=_norm: (make(), settled(norm(6)), nn.ReLU()),
    }
    STATIC[_conv] = (_make, quantized(*_size))
    STATIC[_deconv] = (lambda conv=_deconv: conv(4, 6, 3, stride=2, output_padding=1, groups=2), quantized(*_size))
    STATIC[_instance] = (lambda instance=_instance: instance(4, affine=True), quantized(*_size))
    for _name, _parts in _fused.items():
        _kind = getattr(nni, _name)
        STATIC[_kind] = (lambda kind=_kind, parts=_parts: kind(*parts()), quantized(*_size))
    if _rank > 1:
        _bn = getattr(nni, f"BNReLU{_rank}d")
        STATIC[_norm] = (lambda norm=_norm: settled(norm(4)), quantized(*_size))
        STATIC[_bn] = (lambda norm=_norm, fused=_bn: fused(settled(norm(4)), nn.ReLU()), quantized(*_size))

DYNAMIC: dict[type[nn.Module], tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]]]] = {
    nn.Linear: (lambda: nn.Linear(5, 4), floats((2, 3, 5))),
    nni.LinearReLU: (lambda: nni.LinearReLU(nn.Linear(5, 4), nn.ReLU()), floats((3, 5))),
    nn.LSTM: (lambda: nn.LSTM(5, 4, 2, bidirectional=True), floats((6, 2, 5))),
    nn.GRU: (lambda: nn.GRU(5, 4, batch_first=True), floats((2, 6, 5))),
    nn.LSTMCell: (lambda: nn.LSTMCell(5, 4), floats((2, 5))),
    nn.GRUCell: (lambda: nn.GRUCell(5, 4), floats((2, 5))),
    nn.RNNCell: (lambda: nn.RNNCell(5, 4, nonlinearity="relu"), floats((2, 5))),
    nn.Embedding: STATIC[nn.Embedding],
    nn.EmbeddingBag: STATIC[nn.EmbeddingBag],
}

SAMPLES = {
    **{f"static-{kind.__name__}": Sample("static", *made) for kind, made in STATIC.items()},
    **{f"dynamic-{kind.__name__}": Sample("dynamic", *made) for kind, made in DYNAMIC.items()},
}

COVERED = {("static", kind) for kind in STATIC} | {("dynamic", kind) for kind in DYNAMIC}
LEFT_OUT = {("static", nnq.FloatFunctional)}
"""Has methods and no call: tested by itself."""


def tensors(result: Any) -> list[torch.Tensor]:
    """All tensors of a result, quantized ones as their integers."""
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in tensors(part)]
    return [result.int_repr() if getattr(result, "is_quantized", False) else result]
