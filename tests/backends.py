"""Names of the backends that run on this machine."""

from __future__ import annotations

from qcore.registry import registry

USABLE = [status.name for status in registry.statuses() if status.usable]
