"""torch.ao.quantization: FX graph mode for conv nets, dynamic for the rest."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from benchmarks.models import Inputs, Model


def static(engine: str, trace: bool = False) -> Callable[[Model, Inputs, int], Callable[[], Any]]:
    """FX graph mode with the default mapping of an engine; `trace`: frozen by torch.jit afterwards."""

    def build(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
        from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

        torch.backends.quantized.engine = engine
        prepared = quantize_fx.prepare_fx(deepcopy(model.module), get_default_qconfig_mapping(engine), inputs)
        for batch in model.calibration():
            prepared(*batch)
        module: Any = quantize_fx.convert_fx(prepared)
        moved = [each.contiguous(memory_format=torch.channels_last) for each in inputs]
        if trace:
            module = torch.jit.freeze(torch.jit.trace(module, tuple(moved)))
        return lambda: module(*moved)

    return build


def dynamic(engine: str) -> Callable[[Model, Inputs, int], Callable[[], Any]]:
    """quantize_dynamic of every Linear and LSTM; the engine is looked up in each call."""

    def build(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
        from torch.ao.quantization import quantize_dynamic

        torch.backends.quantized.engine = engine
        module = quantize_dynamic(deepcopy(model.module), {nn.Linear, nn.LSTM}, dtype=torch.qint8)

        def call() -> Any:
            torch.backends.quantized.engine = engine
            return module(*inputs)

        return call

    return build
