"""The backend of this package."""

from __future__ import annotations

from qcore.native.backend import NativeBackend


class QnnpackArm(NativeBackend):
    """64-bit ARM CPUs."""

    name = "qnnpack_arm"
    version = "0.1.0"
    api_version = (1, 1)
    summary = "native int8 kernels for 64-bit ARM: i8mm, dot product, NEON"
    priority = 100
    module = "qcore_qnnpack_arm._native"
    distribution = "torch-qcore-qnnpack-arm"
    machines = ("aarch64", "arm64")
    machine = "an ARM CPU (aarch64)"
