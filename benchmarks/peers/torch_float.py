"""torch in float32."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from benchmarks.models import Inputs, Model


def eager(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """As it is."""
    return lambda: model.module(*inputs)


def channels_last(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """Weights and input with channels innermost."""
    module = deepcopy(model.module).to(memory_format=torch.channels_last)
    moved = [each.to(memory_format=torch.channels_last) for each in inputs]
    return lambda: module(*moved)


def compiled(model: Model, inputs: Inputs, threads: int) -> Callable[[], Any]:
    """By inductor, with frozen weights."""
    from torch._inductor import config

    torch._dynamo.reset()
    with config.patch(freezing=True):
        module = torch.compile(deepcopy(model.module))
        module(*inputs)
    return lambda: module(*inputs)
