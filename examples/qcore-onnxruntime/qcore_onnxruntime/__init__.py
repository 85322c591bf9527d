"""qcore backend for ONNX Runtime: whatever its execution providers drive becomes a target."""

from __future__ import annotations

import qcore
from qcore_onnxruntime.backend import OnnxRuntime


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return OnnxRuntime()
