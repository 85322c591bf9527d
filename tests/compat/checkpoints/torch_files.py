"""The models, quantized by torch 2.13 itself (an oracle), and the golden files made of them.

`python -m tests.compat.checkpoints.torch_files` writes golden/: run it again only for new kinds of files.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tests.compat.checkpoints import models
from tests.oracle import engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization as ao
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

THEIRS = models.Kit(ao.QuantStub, ao.DeQuantStub, torch.ao.nn.quantized.FloatFunctional)
GOLDEN = Path(__file__).parent / "golden"


def qconfig(per_channel: bool) -> Any:
    """Seven bits for activations, so that torch's kernels do not saturate."""
    weight = ao.default_per_channel_weight_observer if per_channel else ao.default_weight_observer
    return ao.QConfig(ao.MinMaxObserver.with_args(quant_min=0, quant_max=127), weight)


def static(per_channel: bool) -> nn.Module:
    model = ao.fuse_modules(models.conv_net(THEIRS), [["first", "relu"]])
    model.qconfig = qconfig(per_channel)
    model.up.qconfig = qconfig(False)
    prepared = ao.prepare(model)
    prepared(models.images())
    return ao.convert(prepared)


def dynamic(dtype: Any) -> nn.Module:
    return ao.quantize_dynamic(
        models.speech(), {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}, dtype
    )


def embeddings(bits: int) -> nn.Module:
    """`bits` of the table of bags; torch has no working Embedding of 4 bits."""
    model = models.tables()
    eight, four = ao.float_qparams_weight_only_qconfig, ao.float_qparams_weight_only_qconfig_4bit
    model.rows.qconfig, model.bags.qconfig = eight, eight if bits == 8 else four
    return ao.convert(ao.prepare(model))


def graph(model: nn.Module, batch: torch.Tensor) -> nn.Module:
    prepared = prepare_fx(model, ao.QConfigMapping().set_global(qconfig(True)), (batch,))
    prepared(batch)
    return convert_fx(prepared)


def run(model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), engine():
        return model(*inputs)


def without_code(path: Path) -> None:
    """Take the code, and where its source lay, out of a scripted archive: only weights are read."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if "/code/" not in name}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)


def main() -> None:
    files = {
        "static": (static(True), models.images()),
        "static_per_tensor": (static(False), models.images()),
        "dynamic": (dynamic(torch.qint8), models.sequences()),
        "dynamic_float16": (dynamic(torch.float16), models.sequences()),
        "embeddings": (embeddings(8), models.INDICES),
        "embeddings_4bit": (embeddings(4), models.INDICES),
    }
    expected = {}
    for name, (model, inputs) in files.items():
        expected[name] = run(model, inputs).contiguous()
        torch.save(model.state_dict(), GOLDEN / f"{name}.pt")
        if name in ("static", "dynamic", "embeddings_4bit"):
            torch.save(model.state_dict(), GOLDEN / f"{name}_legacy.pt", _use_new_zipfile_serialization=False)
            torch.save(model, GOLDEN / f"{name}_module.pt")
        if name in ("static", "dynamic"):
            torch.jit.save(torch.jit.script(model), GOLDEN / f"{name}_scripted.pt")
            without_code(GOLDEN / f"{name}_scripted.pt")
    save_file(expected, GOLDEN / "expected.safetensors")


if __name__ == "__main__":
    with warnings.catch_warnings(), engine():
        warnings.simplefilter("ignore")
        main()
