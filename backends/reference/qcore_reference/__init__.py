"""qcore's reference backend: docs/numerics.md in plain torch, one file per family of operators."""

from __future__ import annotations

import qcore
from qcore_reference.backend import Reference


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return Reference()
