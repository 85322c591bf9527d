"""The kernels of calibration and training that the model's backend has; plain torch stands in where there is none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.backend import Kernel
from qcore.binding import undisturbed
from qcore.errors import BackendError
from qcore.operators import Operator
from qcore.registry import registry, until_changed
from qcore.tensor.entering import on_the_cpu


def kernel_for(x: Tensor, backend: str | None, operator: Operator) -> Kernel | None:
    """The kernel of the backend of this name (None: the automatic choice) for x, or None where it has none.

    Kernels take float32 on the CPU. None too while torch traces or compiles, which has to see torch's own operators.
    """
    found = kernels_for(x, backend, operator)
    return None if found is None else found[0]


def kernels_for(x: Tensor, backend: str | None, *operators: Operator) -> tuple[Kernel, ...] | None:
    """`kernel_for` of several operators; None where one is missing."""
    return _offered(backend, operators) if x.dtype == torch.float32 and is_eager(x) else None


def is_eager(x: Tensor) -> bool:
    """Whether x is in the memory of the CPU, and torch neither traces nor compiles."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    return x.device.type == "cpu" and type(x) in (Tensor, nn.Parameter) and not x.is_neg()


@until_changed
def _offered(backend: str | None, operators: tuple[Operator, ...]) -> tuple[Kernel, ...] | None:
    try:
        chosen = registry.choose(backend).backend
    except BackendError:
        if backend is None:
            return None  # no backend can run here: training needs none
        raise
    if not all(map(chosen.supports, operators)):
        return None
    with on_the_cpu():
        return tuple(undisturbed(chosen.build(operator)) for operator in operators)
