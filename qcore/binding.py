"""From an operator and the name of a model's backend to the kernel that runs it; a fallback runs what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from qcore.backend import Kernel
from qcore.custom_ops.schema import record
from qcore.errors import QuantizationError, UnsupportedError
from qcore.operators import Operator, is_constant_free
from qcore.registry import registry, until_changed
from qcore.selection import REFUSE
from qcore.tensor.arguments import OF_ARGUMENTS
from qcore.tensor.compiled import outside_of_graphs
from qcore.tensor.dtypes import QDType
from qcore.tensor.entering import on_the_cpu
from qcore.tensor.qparams import check_again
from qcore.tensor.recording import log


@dataclass(frozen=True)
class Binding:
    """Which backend runs an operator; `reason` says why those asked before it do not."""

    operator: Operator
    runs_on: str
    reason: str = ""

    def build(self, *, hidden: bool = True) -> Kernel:
        """The kernel; operators without constants share one. `hidden`: from torch.compile, where its caller is not."""
        if is_constant_free(self.operator):
            return _shared_kernel(self.runs_on, self.operator)
        kernel = _recordable(self.kernel(), self.operator, self.runs_on)
        return outside_of_graphs(kernel) if hidden else kernel

    def recorder(self) -> Kernel:
        """What records calls of it, and needs no kernel: constants may be fake while an export runs."""
        return partial(_record, self.operator, self.runs_on)

    def kernel(self) -> Kernel:
        """The kernel alone, which nothing that records may call."""
        return registry.get(self.runs_on).build(self.operator)


def bind(backend: str | None, operator: Operator, activations: tuple[QDType, ...] = ()) -> Binding:
    """Find who runs an operator for a model on `backend` (a Selection as a string; None: the automatic choice).

    Raises UnsupportedError, with each backend's reason, when none of these nor a fallback does; QuantizationError where
    the selection says fallback=error.
    """
    reasons: list[str] = []
    for candidate in registry.candidates(backend):
        verdict = candidate.supports(operator, activations)
        if verdict:
            return Binding(operator, candidate.name, "; ".join(reasons))
        reasons.append(f"{candidate.name}: {verdict.reason}")
    told = f"no backend can run {operator}: {'; '.join(reasons)}. "
    fallback = registry.choose(backend).selection.fallback
    if fallback == REFUSE:
        raise QuantizationError(f"{told}With fallback={REFUSE!r} no other is asked; leave this part of the model float")
    raise UnsupportedError(
        f"{told}Leave this part of the model float, or install a fallback backend that declares it "
        "(pip install torch-qcore-reference)"
    )


@outside_of_graphs
@until_changed
@on_the_cpu()
def shared_kernel(backend: str | None, operator: Operator, activations: tuple[QDType, ...]) -> Kernel:
    """The kernel of an operator without constants, bound once."""
    return bind(backend, operator, activations).build()


@until_changed
def _shared_kernel(name: str, operator: Operator) -> Kernel:
    return outside_of_graphs(_recordable(registry.get(name).build(operator), operator, name))


def _record(operator: Operator, backend: str, *args: Any) -> Any:
    return record(operator, backend, args)


function_modes = torch._C._len_torch_function_stack


def undisturbed(kernel: Kernel) -> Kernel:
    """The kernel, which a default device, and other modes that see each function of torch, leave alone."""

    def run(*args: Any) -> Any:
        if not function_modes():
            return kernel(*args)
        with torch._C.DisableTorchFunction():
            return kernel(*args)

    return run


def _recordable(kernel: Kernel, operator: Operator, backend: str) -> Kernel:
    """The kernel; while something records (a trace, an export, a mode that sees every operator), its custom op."""
    is_tracing, modes = torch._C._is_tracing, torch._C._len_torch_dispatch_stack  # is_recording(), a call less

    quietly = undisturbed(kernel)

    def run(*args: Any) -> Any:
        if is_tracing() or modes() or log() is not None:
            return record(operator, backend, args)
        try:
            return quietly(*args) if function_modes() else kernel(*args)
        except OF_ARGUMENTS:
            check_again(operator.name, args)
            raise

    return run
