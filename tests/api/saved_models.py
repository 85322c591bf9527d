"""Converted models of every kind, each with the float model to load into (None: none is needed) and an input.

`python -m tests.api.saved_models` writes the golden files of this version of the format; those of others stay.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import qcore
from qcore.api.saving import SCHEMA
from tests.api import eager_models
from tests.backends import USABLE
from tests.fx import nets
from tests.nn.every_module import tensors


def _drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def eager(kind, backend):
    torch.manual_seed(0)
    model = kind(eager_models.QCORE).eval()
    x = _drawn(4, *kind.SHAPE)
    fused = qcore.fuse_modules(model, kind.FUSE) if kind.FUSE else model
    prepared = qcore.prepare(fused, backend=backend)
    prepared(x)
    return qcore.convert(prepared), lambda: kind(eager_models.QCORE), (x,)


def trained(backend):
    torch.manual_seed(0)
    kind = eager_models.ConvNet
    model = kind(eager_models.QCORE).train()
    x = _drawn(4, *kind.SHAPE)
    prepared = qcore.prepare_qat(qcore.fuse_modules_qat(model, kind.FUSE), backend=backend)
    prepared(x).sum().backward()
    return qcore.convert(prepared.eval()), lambda: kind(eager_models.QCORE), (x,)


def graph(kind, backend):
    model, batches = nets.made(kind), nets.batches(kind)
    prepared = qcore.prepare(model, example_inputs=batches[0], backend=backend)
    prepared(*batches[0])
    untraced = kind is nets.Choosing
    return qcore.convert(prepared), kind if untraced else None, batches[1]


class Recurrent(nn.Module):
    """LSTM, GRU, and a cell used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)
        self.gru, self.cell, self.out = nn.GRU(8, 6), nn.LSTMCell(6, 6), nn.Linear(6, 3)
        self.again = self.out

    def forward(self, x):
        x, _ = self.gru(self.lstm(x)[0])
        return self.again(self.cell(x[0])[0])


def dynamic(dtype, backend):
    torch.manual_seed(0)
    model = Recurrent().eval()
    return qcore.quantize_dynamic(model, dtype=dtype, backend=backend), Recurrent, (_drawn(2, 3, 5),)


def tables(bits, backend):
    torch.manual_seed(0)

    def make():
        return nn.Sequential(nn.EmbeddingBag(10, 7, mode="sum", include_last_offset=False))

    dtype = qcore.quint8 if bits == 8 else qcore.quint4x2
    return qcore.quantize_dynamic(make(), dtype=dtype, backend=backend), None, (torch.tensor([[1, 2], [9, 0]]),)


class Attending(nn.Module):
    """Attention and an LSTM, in parts, between stubs."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.attention, self.lstm = nn.MultiheadAttention(8, 2, add_bias_kv=True), nn.LSTM(8, 4, bidirectional=True)

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.lstm(self.attention(x, x, x)[0])[0])


def parts(backend):
    torch.manual_seed(0)
    x = _drawn(3, 2, 8)
    prepared = qcore.prepare(Attending().eval(), backend=backend)
    prepared(x)
    return qcore.convert(prepared), Attending, (x,)


def encoder(backend):
    torch.manual_seed(0)

    def make():
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()

    return qcore.quantize_dynamic(make(), backend=backend), make, (_drawn(2, 5, 8),)


def plain(backend):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.1), nn.Linear(8, 2, bias=False), nn.Softmax(-1)]
    return qcore.quantize_dynamic(nn.Sequential(*layers).eval(), backend=backend), None, (_drawn(4, 6),)


def single(backend):
    torch.manual_seed(0)
    return qcore.quantize_dynamic(nn.Linear(6, 3), backend=backend), None, (_drawn(4, 6),)


SAVED = {
    **{f"eager-{kind.__name__}": (lambda backend, kind=kind: eager(kind, backend)) for kind in eager_models.MODELS},
    **{f"graph-{kind.__name__}": (lambda backend, kind=kind: graph(kind, backend)) for kind in nets.MODELS},
    "trained": trained,
    "dynamic-int8": lambda backend: dynamic(qcore.qint8, backend),
    "dynamic-float16": lambda backend: dynamic(torch.float16, backend),
    "tables-8": lambda backend: tables(8, backend),
    "tables-4": lambda backend: tables(4, backend),
    "parts": parts,
    "encoder": encoder,
    "plain": plain,
    "single": single,
}

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_MODELS = ("eager-ConvNet", "graph-Residual", "dynamic-int8", "tables-4", "plain")


def main() -> None:
    folder = GOLDEN / f"v{SCHEMA}"
    folder.mkdir(parents=True)
    for name in GOLDEN_MODELS:
        model, _, inputs = SAVED[name](USABLE[0])
        qcore.save(model, folder / f"{name}.qcore")
        with torch.no_grad():
            found = tensors(model(*inputs))
        save_file({str(index): each.contiguous() for index, each in enumerate(found)}, folder / f"{name}.expected")


if __name__ == "__main__":
    main()
