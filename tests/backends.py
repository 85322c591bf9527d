"""Names of the backends that run on this machine with exact results; the kit holds the others to their bounds."""

from __future__ import annotations

from qcore.registry import registry

USABLE = [
    status.name
    for status in registry.statuses()
    if status.usable and status.backend is not None and status.backend.capability().exact
]
