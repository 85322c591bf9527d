"""qcore backend for 64-bit ARM CPUs: native int8 kernels for NEON, its dot products, and i8mm."""

from __future__ import annotations

import qcore
from qcore_qnnpack_arm.backend import QnnpackArm


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return QnnpackArm()
