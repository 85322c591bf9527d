"""Every system that is compared: from a float model and an input to a call without arguments that returns floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.models import Inputs, Model
from benchmarks.peers import onnx_runtime, open_vino, ours, torch_ao, torch_float, torch_pt2e

Build = Callable[[Model, Inputs, int], Callable[[], Any]]


@dataclass(frozen=True)
class System:
    """`build(model, inputs, threads)` gives the call; `family` groups ways of one project; `int8`: whether it is."""

    name: str
    family: str
    kinds: tuple[str, ...]
    build: Build
    int8: bool = True


ALL = ("vision", "text", "recurrent")
SYSTEMS = (
    System("torch fp32", "torch", ALL, torch_float.eager, int8=False),
    System("torch fp32 channels_last", "torch", ("vision",), torch_float.channels_last, int8=False),
    System("torch fp32 compiled", "torch", ALL, torch_float.compiled, int8=False),
    System("torch.ao FX x86", "torch.ao", ("vision",), torch_ao.static("x86")),
    System("torch.ao FX x86, traced", "torch.ao", ("vision",), torch_ao.static("x86", trace=True)),
    System("torch.ao FX fbgemm", "torch.ao", ("vision",), torch_ao.static("fbgemm")),
    System("torch.ao dynamic x86", "torch.ao", ("text", "recurrent"), torch_ao.dynamic("x86")),
    System("torch.ao dynamic fbgemm", "torch.ao", ("text", "recurrent"), torch_ao.dynamic("fbgemm")),
    System("torchao PT2E, inductor", "torchao", ALL, torch_pt2e.build),
    System("ONNX Runtime static", "ONNX Runtime", ("vision",), onnx_runtime.static),
    System("ONNX Runtime dynamic", "ONNX Runtime", ("text", "recurrent"), onnx_runtime.dynamic),
    System("OpenVINO NNCF", "OpenVINO", ALL, open_vino.nncf("f32")),
    System("OpenVINO NNCF, default precision", "OpenVINO", ALL, open_vino.nncf(None)),
    System("OpenVINO QDQ", "OpenVINO", ("vision",), open_vino.qdq),
    System("qcore", "qcore", ALL, ours.build),
)
