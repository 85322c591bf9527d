"""What a plugin implements: an object that says what it is, if it runs here and what it can do, and builds kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from torch import Tensor

from qcore.capability import Capability, Verdict
from qcore.errors import UnsupportedError
from qcore.graph.ir import Graph, Node
from qcore.operators import Operator
from qcore.tensor.dtypes import QDType

API_VERSION = (1, 2)
"""Version of this contract (major, minor): minor versions only add; a backend states the one it was written for.

1.1 added `Backend.claims` and `Backend.compile`; 1.2 the hook `qcore_families` and `Pattern.quantized`.
"""

Kernel: TypeAlias = Callable[..., Any]
"""A built operator; how it is called is in the docstring of its class in qcore.operators."""


class Plan(Protocol):
    """A compiled graph: a function of plain tensors, ordered as the graph's inputs; its str() is for people.

    One that also has `seconds(*inputs)`, the time of each node in order, is shown in detail by qcore.profile.
    """

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs in order, in tensors of their own; any sizes; callable from several threads at once."""


Mode: TypeAlias = Literal["static", "dynamic", "qat"]


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run on this machine; if not, the reason and the cure; `detail`: its instruction set."""

    ok: bool
    reason: str = ""
    cure: str = ""
    detail: str = ""


class Backend(ABC):
    """A hardware target. Subclass it, and return one instance from the hook `qcore_backend`.

    Nothing here is called while a model runs: kernels are built, and graphs compiled, at convert or first use, and
    then called directly.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str] = ""
    api_version: ClassVar[tuple[int, int]] = API_VERSION
    priority: ClassVar[int] = 0
    """Among the available backends, `auto` takes the one of highest priority."""
    fallback: ClassVar[bool] = False
    """Whether it may run what the chosen backend does not declare."""

    @abstractmethod
    def probe(self) -> Availability:
        """Whether this machine can run it. Must not raise; must be quick; is asked once a process."""

    @abstractmethod
    def capability(self) -> Capability:
        """What it can do, the same on every call; asked even where the backend is not available."""

    @abstractmethod
    def build(self, operator: Operator) -> Kernel:
        """A kernel for one operator that `supports` said yes to, with its weights packed."""

    def supports(self, operator: Operator, activations: tuple[QDType, ...] = ()) -> Verdict:
        """Whether it runs this one operator, with activations of these dtypes; by default, as declared."""
        return self.capability().verdict(operator, activations)

    def claims(self, graph: Graph) -> Collection[Node]:
        """The nodes of a converted model's graph that `compile` would run together; by default none.

        The others, and all where it claims none, run by kernels of `build`. Called once for each model.
        """
        return ()

    def compile(self, graph: Graph) -> Plan:
        """A plan for some of the claimed nodes, whose results have the bits that the kernels of `build` give."""
        raise UnsupportedError(f"{self.name} claims no graphs")

    def default_qconfig(self, mode: Mode) -> Any:
        """Its QConfig for a mode, or None to have one derived from what it declares."""
        return None
