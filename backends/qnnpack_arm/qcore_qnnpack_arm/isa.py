"""Which instruction set's kernels run in this process."""

from __future__ import annotations

import os
import platform
from typing import Any

import qcore

try:
    from qcore_qnnpack_arm import _native
except ImportError as error:
    _native, _missing = None, str(error)

FORCE = "QCORE_FORCE_ISA"


def supported() -> list[str]:
    """Instruction sets that have kernels and that this CPU has, best first."""
    return _native.supported_isas() if _native else []


def kernels(isa: str | None = None) -> Any:
    """The native kernels of one instruction set, by default of the best, or of that in QCORE_FORCE_ISA."""
    return _native.kernels(isa or os.environ.get(FORCE) or supported()[0])


def probe() -> qcore.Availability:
    """Whether the kernels can run here; the detail is the instruction set in use."""
    if _native is None:
        machine = platform.machine()
        if machine not in ("aarch64", "arm64"):
            reason = f"needs an ARM CPU (aarch64), this is {machine}"
            return qcore.Availability(False, reason, "Choose another backend.")
        return qcore.Availability(
            False, f"its compiled module is missing ({_missing})", "Reinstall it: pip install torch-qcore-qnnpack-arm"
        )
    forced = os.environ.get(FORCE)
    if forced and forced not in _native.known_isas():
        known = ", ".join(_native.known_isas())
        return qcore.Availability(False, f"{FORCE}={forced!r} is not one of {known}", f"Unset {FORCE}, or correct it.")
    if forced and forced not in supported():
        here = ", ".join(supported())
        return qcore.Availability(False, f"this CPU has no {forced} ({FORCE})", f"Unset {FORCE}, or use one of {here}.")
    return qcore.Availability(True, detail=forced or supported()[0])
