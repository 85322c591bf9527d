"""Models made on one machine that run on another: `across.py make BACKEND FOLDER`, `... compare BACKEND FOLDER ISA`.

The first converts and saves them, with an input and what each module gives. The second loads them and compares every
bit, on each instruction set named. It exits with 1, and the names of what differs, where anything does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcore
from qcore.nn.float_functional import FloatFunctional


class ConvNet(nn.Module):
    """Convolutions of all kinds (strided, grouped, depthwise, 1x1), a residual, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.first = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU())
        self.pointwise = nn.Conv2d(24, 24, 1)
        self.grouped = nn.Conv2d(24, 40, 3, groups=4)
        self.sum, self.activation, self.pool = FloatFunctional(), nn.Hardswish(), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(160, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.quant(x))
        x = self.sum.add_relu(self.pointwise(self.depthwise(x)), x)
        return self.dequant(self.head(self.pool(self.activation(self.grouped(x))).flatten(1)))


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, both with a residual and a norm, all quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.first, self.second = FloatFunctional(), FloatFunctional()
        self.norm_1, self.norm_2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.feed = nn.Sequential(nn.Linear(32, 80), nn.GELU(), nn.Linear(80, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        x = self.norm_1(self.first.add(x, self.attention(x, x, x)[0]))
        return self.dequant(self.norm_2(self.second.add(x, self.feed(x))))


class TextBlock(nn.Module):
    """The same in floats, as text encoders have it: dynamic linear layers, compiled with what lies between them."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(48, 48) for _ in range(4))
        self.norm_1, self.norm_2 = nn.LayerNorm(48), nn.LayerNorm(48)
        self.up, self.down = nn.Linear(48, 100), nn.Linear(100, 48)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            each(x).view(x.shape[0], x.shape[1], 4, 12).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        heads = F.scaled_dot_product_attention(query, key, value)
        x = self.norm_1(x + self.out(heads.transpose(1, 2).reshape(x.shape)))
        return self.norm_2(x + self.down(F.gelu(self.up(x))))


class Recurrent(nn.Sequential):
    """An LSTM of two layers in both directions."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM(20, 40, 2, bidirectional=True))


MODELS: dict[type[nn.Module], tuple[int, ...]] = {
    ConvNet: (2, 3, 17, 17),
    TransformerBlock: (2, 9, 32),
    TextBlock: (2, 19, 48),
    Recurrent: (7, 2, 20),
}
"""And the shapes of their inputs."""

DYNAMIC = (TextBlock, Recurrent)


def converted(build: type[nn.Module], backend: str, x: Tensor) -> nn.Module:
    """The model, dynamic or calibrated with x."""
    model = build().eval()
    if build in DYNAMIC:
        return qcore.quantize_dynamic(model, backend=backend)
    if build is ConvNet:
        model = qcore.fuse_modules(model, [["first.0", "first.1"], ["depthwise.0", "depthwise.1"]])
    prepared = qcore.prepare(model, backend=backend)
    prepared(x)
    return qcore.convert(prepared)


@torch.inference_mode()
def results(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each module gives, in the order of their calls: integers where it is quantized, and floats as their bits.

    Of a block of text: what it gives as one compiled part.
    """
    if isinstance(model, TextBlock):
        compiled = qcore.compile(model, (x,))
        return {"compiled": compiled(x).view(torch.int32)}
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        if isinstance(output, (tuple, list)):
            for part in output:
                keep(name, part)
        elif isinstance(output, Tensor):
            bits = output.int_repr() if isinstance(output, qcore.QTensor) else output.view(torch.int32)
            found[f"{len(found)} {name}"] = bits.contiguous().clone()

    handles = [
        module.register_forward_hook(lambda _m, _x, output, name=name: keep(name or "whole", output))
        for name, module in model.named_modules()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return found


def make(backend: str, folder: Path) -> None:
    """Every model converted and saved, with an input and all results."""
    torch.manual_seed(0)
    for build, shape in MODELS.items():
        model = converted(build, backend, torch.randn(shape))
        x = torch.randn(shape)
        qcore.save(model, folder / f"{build.__name__}.qcore")
        torch.save({"x": x, "results": results(model, x)}, folder / f"{build.__name__}.pt")


def different(backend: str, folder: Path) -> tuple[int, list[str]]:
    """How many numbers were compared, and which results are not those of the machine that made the models."""
    compared, wrong = 0, []
    for build in MODELS:
        there = torch.load(folder / f"{build.__name__}.pt", weights_only=True)
        model = qcore.load(folder / f"{build.__name__}.qcore", build, backend)
        here = results(model, there["x"])
        if here.keys() != there["results"].keys():
            wrong.append(f"{build.__name__}: {list(here)} instead of {list(there['results'])}")
            continue
        compared += sum(bits.numel() for bits in here.values())
        wrong += [
            f"{build.__name__}: {name}" for name, bits in here.items() if not torch.equal(bits, there["results"][name])
        ]
    return compared, wrong


if __name__ == "__main__":
    command, name, folder, *isas = sys.argv[1:]
    if command == "make":
        make(name, Path(folder))
    failed = False
    for isa in isas:
        os.environ["QCORE_FORCE_ISA"] = isa
        count, wrong = different(name, Path(folder))
        print(f"{isa}: {count} numbers compared, {len(wrong)} results differ", *wrong, sep="\n", flush=True)
        failed |= bool(wrong)
    sys.exit(failed)
