"""torchao's PT2E flow: exported, quantized for x86, compiled by inductor with frozen weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.models import Inputs, Model


def build(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """Static, with the quantizer's default configuration; what it does not know (LSTM) stays float."""
    from torch._inductor import config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer

    exported = torch.export.export(model.module, inputs, strict=True).module()
    chosen = x86_inductor_quantizer.X86InductorQuantizer()
    chosen.set_global(x86_inductor_quantizer.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, chosen)
    for batch in _like(model, inputs):
        prepared(*batch)
    converted = convert_pt2e(prepared)
    torch._dynamo.reset()
    with config.patch(freezing=True):
        module = torch.compile(converted)
        module(*inputs)
    return lambda: module(*inputs)


def _like(model: Model, inputs: Inputs) -> list[Inputs]:
    """Calibration batches of the size that was exported."""
    batch = inputs[0].shape[model.batch_axis]
    return [model.inputs(batch, seed) for seed in (101, 102, 103)]
