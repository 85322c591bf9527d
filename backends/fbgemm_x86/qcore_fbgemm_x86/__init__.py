"""qcore backend for x86-64 CPUs: native int8 kernels for AMX, AVX-512 VNNI, AVX-VNNI, AVX2 and plain x86-64."""

from __future__ import annotations

import qcore
from qcore_fbgemm_x86.backend import FbgemmX86


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return FbgemmX86()
