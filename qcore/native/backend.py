"""A backend on the kernels of qcore/include: it finds the instruction sets of this CPU, and builds on the best."""

from __future__ import annotations

import importlib
import os
import platform
from functools import cached_property
from typing import Any, ClassVar

from qcore.backend import Availability, Backend, Kernel
from qcore.capability import Capability
from qcore.graph.ir import Graph, Node
from qcore.native.declaration import BUILDERS, CAPABILITY
from qcore.native.plan import NativePlan, can_compile
from qcore.operators import Operator

FORCE = "QCORE_FORCE_ISA"


class NativeBackend(Backend):
    """Kernels compiled for each instruction set of a kind of CPU, the best one chosen when the process starts.

    `module`: the compiled module, as bind_module of qcore/python/module.h makes it; `distribution`: the package it
    comes with; `machines`: names of the kind of CPU, as platform.machine() gives them; `machine`: its name for people.
    """

    module: ClassVar[str]
    distribution: ClassVar[str]
    machines: ClassVar[tuple[str, ...]]
    machine: ClassVar[str]

    @cached_property
    def _native(self) -> Any:
        """The compiled module, or why it cannot be imported."""
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            return str(error)

    def supported_isas(self) -> list[str]:
        """Instruction sets that have kernels and that this CPU has, best first."""
        return [] if isinstance(self._native, str) else self._native.supported_isas()

    def kernels(self, isa: str | None = None) -> Any:
        """The native kernels of one instruction set, by default of the best, or of that in QCORE_FORCE_ISA."""
        return self._native.kernels(isa or os.environ.get(FORCE) or self.supported_isas()[0])

    def probe(self) -> Availability:
        """Whether the kernels can run here; the detail is the instruction set in use."""
        native = self._native
        if isinstance(native, str):
            here = platform.machine()
            if here not in self.machines:
                return Availability(False, f"needs {self.machine}, this is {here}", "Choose another backend.")
            cure = f"Reinstall it: pip install {self.distribution}"
            return Availability(False, f"its compiled module is missing ({native})", cure)
        forced, supported = os.environ.get(FORCE), self.supported_isas()
        if forced and forced not in native.known_isas():
            known = ", ".join(native.known_isas())
            return Availability(False, f"{FORCE}={forced!r} is not one of {known}", f"Unset {FORCE}, or correct it.")
        if forced and forced not in supported:
            cure = f"Unset {FORCE}, or use one of {', '.join(supported)}."
            return Availability(False, f"this CPU has no {forced} ({FORCE})", cure)
        return Availability(True, detail=forced or supported[0])

    def capability(self) -> Capability:
        """What is native; the same on every instruction set."""
        return CAPABILITY

    def build(self, operator: Operator, *, isa: str | None = None) -> Kernel:
        """The operator's kernel, its weights packed; `isa` chooses among the instruction sets of this CPU."""
        kernel: Kernel = BUILDERS[type(operator)](operator, self.kernels(isa))
        return kernel

    def claims(self, graph: Graph) -> list[Node]:
        """What plans have steps for."""
        return [node for node in graph.nodes if can_compile(node)]

    def compile(self, graph: Graph, *, isa: str | None = None) -> NativePlan:
        """The graph's native plan; `isa` as in `build`."""
        return NativePlan(graph, self.kernels(isa))
