"""qcore backend for ARM CPUs: a plugin that declares itself unavailable until its kernels are written."""

from __future__ import annotations

import platform

import qcore


class QnnpackArm(qcore.Backend):
    """ARM CPUs with NEON, dot-product or i8mm instructions."""

    name = "qnnpack_arm"
    version = "0.1.0"
    summary = "ARM CPUs (kernels not written yet)"
    priority = 100

    def probe(self) -> qcore.Availability:
        """Never available so far; the reason tells a foreign CPU from the missing kernels."""
        machine = platform.machine()
        if machine not in ("aarch64", "arm64"):
            reason = f"needs an ARM CPU (aarch64), this is {machine}"
            return qcore.Availability(False, reason, "Choose another backend.")
        return qcore.Availability(
            False, f"version {self.version} has no kernels yet", "Use the reference backend: the results are the same."
        )

    def capability(self) -> qcore.Capability:
        """Nothing so far."""
        return qcore.Capability()

    def build(self, operator: object) -> qcore.Kernel:
        """Refuses: nothing is declared."""
        raise qcore.UnsupportedError(f"{self.name} {self.version} declares no operators, so it cannot build {operator}")


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return QnnpackArm()
