"""qcore: static on the graph for conv nets, dynamic for the rest, on the backend that it chooses itself."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

import qcore
from benchmarks.models import Inputs, Model


def build(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """What a user of the kind of model would call, with its defaults."""
    if model.kind != "vision":
        module = qcore.quantize_dynamic(deepcopy(model.module))
        if model.kind == "text":
            module = qcore.compile(module, inputs)
        return lambda: module(*inputs)
    prepared = qcore.prepare(model.module, example_inputs=inputs)
    for batch in model.calibration():
        prepared(*batch)
    converted = qcore.convert(prepared)
    moved = [each.contiguous(memory_format=torch.channels_last) for each in inputs]
    return lambda: converted(*moved)
