"""The backend of this package."""

from __future__ import annotations

from qcore.native.backend import NativeBackend


class FbgemmX86(NativeBackend):
    """x86-64 CPUs."""

    name = "fbgemm_x86"
    version = "0.1.0"
    api_version = (1, 1)
    summary = "native int8 kernels for x86-64: AMX, AVX-512 VNNI, AVX-VNNI, AVX2, plain"
    priority = 100
    module = "qcore_fbgemm_x86._native"
    distribution = "torch-qcore-fbgemm-x86"
    machines = ("x86_64", "AMD64")
    machine = "an x86-64 CPU"
