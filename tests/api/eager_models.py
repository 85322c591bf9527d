"""Small float models for qcore and for torch's own flow alike: `api` gives the stubs and FloatFunctional."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import qcore.api
import qcore.nn.quantized


@dataclass(frozen=True)
class Api:
    """The names that a model uses of one of the two."""

    QuantStub: Any
    DeQuantStub: Any
    FloatFunctional: Any


QCORE = Api(qcore.api.QuantStub, qcore.api.DeQuantStub, qcore.nn.quantized.FloatFunctional)


def torch_api() -> Api:
    """torch's own; imported late, since it may be gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import FloatFunctional
        from torch.ao.quantization import DeQuantStub, QuantStub
    return Api(QuantStub, DeQuantStub, FloatFunctional)


class Stubbed(nn.Module):
    """A body between the stubs."""

    FUSE: list[list[str]] = []

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.quant = api.QuantStub()
        self.dequant = api.DeQuantStub()

    def forward(self, x):
        return self.dequant(self.body(self.quant(x)))


class ConvNet(Stubbed):
    """2-D convolutions with everything fused after them, pooling, and linears; input (batch, 3, 12, 12)."""

    FUSE = [["c1", "b1", "r1"], ["c2", "r2"], ["c3", "b3"], ["f1", "fr"]]
    SHAPE = (3, 12, 12)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.c1, self.b1, self.r1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.c2, self.r2 = nn.Conv2d(8, 8, 3, stride=2, groups=4, bias=False), nn.ReLU()
        self.c3, self.b3 = nn.Conv2d(8, 12, (1, 3), dilation=(1, 2), padding=(0, 1)), nn.BatchNorm2d(12)
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.f1, self.fr, self.f2 = nn.Linear(12 * 2 * 1, 10), nn.ReLU(), nn.Linear(10, 4, bias=False)

    def body(self, x):
        x = self.pool(self.b3(self.c3(self.r2(self.c2(self.r1(self.b1(self.c1(x))))))))
        return self.f2(self.fr(self.f1(self.flat(x))))


class Residual(Stubbed):
    """add, add_relu, mul and cat by FloatFunctional, depthwise convolution, average pools; input (batch, 4, 9, 9).

    Odd windows have no ties, and batches of 16 fill whole blocks of 64: there torch does not contradict itself
    (docs/numerics.md).
    """

    FUSE = [["c1", "b1"]]
    SHAPE = (4, 9, 9)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.c1, self.b1 = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 4, 1)
        self.add, self.add_relu, self.mul, self.cat = (api.FloatFunctional() for _ in range(4))
        self.relu6, self.avg, self.top = nn.ReLU6(), nn.AvgPool2d(3), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def body(self, x):
        y = self.add.add(self.b1(self.c1(x)), x)
        z = self.add_relu.add_relu(self.c2(y), x)
        w = self.mul.mul(self.relu6(z), y)
        joined = self.avg(self.cat.cat([y, z, w], dim=1))
        return self.fc(torch.flatten(self.top(joined), 1))


class Conv1dNet(Stubbed):
    """1-D convolutions; input (batch, 5, 16)."""

    FUSE = [["c1", "b1", "r1"]]
    SHAPE = (5, 16)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.c1, self.b1, self.r1 = nn.Conv1d(5, 6, 3, padding=2), nn.BatchNorm1d(6), nn.ReLU()
        self.c2, self.pool = nn.Conv1d(6, 4, 2, stride=2), nn.MaxPool1d(2)

    def body(self, x):
        return self.pool(self.c2(self.r1(self.b1(self.c1(x)))))


class Conv3dNet(Stubbed):
    """3-D convolutions; input (batch, 2, 5, 6, 7)."""

    FUSE = [["c1", "b1", "r1"]]
    SHAPE = (2, 5, 6, 7)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.c1, self.b1, self.r1 = nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU()
        self.c2 = nn.Conv3d(4, 3, (1, 2, 3), stride=(2, 1, 1))

    def body(self, x):
        return self.c2(self.r1(self.b1(self.c1(x))))


class Activations(Stubbed):
    """Functions through lookup tables; input (batch, 8)."""

    SHAPE = (8,)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.fc = nn.Linear(8, 8)
        self.hardswish, self.elu, self.leaky = nn.Hardswish(), nn.ELU(0.7), nn.LeakyReLU(0.2)
        self.hardtanh = nn.Hardtanh(-0.5, 0.7)

    def body(self, x):
        return self.hardtanh(self.leaky(self.elu(self.hardswish(self.fc(x)))))


MODELS = (ConvNet, Residual, Conv1dNet, Conv3dNet, Activations)


def twins(kind: type[Stubbed], seed: int) -> tuple[Stubbed, Stubbed]:
    """The same float model for qcore and for torch, with batch norm statistics of their own, in eval mode."""
    torch.manual_seed(seed)
    ours, theirs = kind(QCORE), kind(torch_api())
    with torch.no_grad():
        for name, buffer in ours.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    return ours.eval(), theirs.eval()
