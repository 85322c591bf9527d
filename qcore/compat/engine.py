"""torch.backends.quantized: torch's names of engines, each of which means a backend of qcore."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

from qcore.errors import ArgumentError, BackendError
from qcore.registry import registry

ENGINES = {"fbgemm": "fbgemm_x86", "x86": "fbgemm_x86", "onednn": "fbgemm_x86", "qnnpack": "qnnpack_arm"}
"""Engine of torch -> backend of qcore. Where that cannot run, the best that can stands in, with the same bits."""


class QuantizedEngine(ModuleType):
    """The module torch.backends.quantized: reading `engine` gives torch's name, or that of a backend torch lacks."""

    def __init__(self) -> None:
        super().__init__("torch.backends.quantized", "Which backend qcore chooses where none is named.")
        self.__dict__["_chosen"] = None
        self.__dict__["_noted"] = set()

    @property
    def engine(self) -> str:
        """The engine last set; before, torch's name of the best backend that can run here."""
        chosen: str | None = self._chosen
        return chosen or _engine_of(registry.choose().backend.name)

    @property
    def supported_engines(self) -> list[str]:
        """Engines of torch (all of them mean a backend that can run here), then the usable backends of qcore."""
        return [*ENGINES, *(status.name for status in registry.statuses() if status.usable)]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "supported_engines":
            raise ArgumentError("supported_engines cannot be set: install a backend, and it is there")
        if name == "engine":
            registry.prefer(self._backend(value))
            self.__dict__["_chosen"] = value
        else:
            super().__setattr__(name, value)

    def _backend(self, engine: Any) -> str | None:
        """The backend for an engine; None for the best, where the one that it means cannot run here."""
        if engine not in self.supported_engines:
            raise ArgumentError(
                f"torch.backends.quantized.engine = {engine!r}: use one of {', '.join(self.supported_engines)}"
            )
        meant = ENGINES.get(engine, engine)
        try:
            registry.get(meant)
        except BackendError as error:
            if engine not in self._noted:
                self._noted.add(engine)
                best = registry.choose("auto" if registry.preferred is None else registry.preferred).backend.name
                reason = str(error).partition("\n")[0].partition(". ")[0]
                warnings.warn(f"engine {engine!r}: {reason}; {best!r} stands in, with the same bits", stacklevel=4)
            return None
        return str(meant)


def _engine_of(backend: str) -> str:
    torchs = {"fbgemm_x86": "x86", "qnnpack_arm": "qnnpack"}
    return torchs.get(backend, backend)
