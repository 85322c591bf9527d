"""From an operator and the name of a model's backend to the kernel that runs it; a fallback runs what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qcore.backend import Kernel
from qcore.errors import UnsupportedError
from qcore.operators import Operator, is_constant_free
from qcore.registry import registry
from qcore.tensor.dtypes import QDType


@dataclass(frozen=True)
class Binding:
    """Which backend runs an operator; `reason` says why it is not the one asked for."""

    operator: Operator
    runs_on: str
    reason: str = ""

    def build(self) -> Kernel:
        """The kernel; operators without constants share one."""
        if is_constant_free(self.operator):
            return _shared_kernel(self.runs_on, self.operator)
        return registry.get(self.runs_on).build(self.operator)


def bind(backend: str | None, operator: Operator, activations: tuple[QDType, ...] = ()) -> Binding:
    """Find who runs an operator for a model on `backend` (None: the automatic choice).

    Raises UnsupportedError, with each backend's reason, when neither it nor a fallback does.
    """
    chosen = registry.choose(backend).backend
    verdict = chosen.supports(operator, activations)
    if verdict:
        return Binding(operator, chosen.name)
    reasons = [f"{chosen.name}: {verdict.reason}"]
    for other in registry.fallbacks(besides=chosen.name):
        answer = other.supports(operator, activations)
        if answer:
            return Binding(operator, other.name, verdict.reason)
        reasons.append(f"{other.name}: {answer.reason}")
    raise UnsupportedError(
        f"no backend can run {operator}: {'; '.join(reasons)}. Leave this part of the model float, or install a "
        "fallback backend that declares it (pip install torch-qcore-reference)"
    )


@lru_cache(maxsize=1024)
def shared_kernel(backend: str | None, operator: Operator, activations: tuple[QDType, ...]) -> Kernel:
    """The kernel of an operator without constants, bound once."""
    return bind(backend, operator, activations).build()


@lru_cache(maxsize=1024)
def _shared_kernel(name: str, operator: Operator) -> Kernel:
    return registry.get(name).build(operator)
