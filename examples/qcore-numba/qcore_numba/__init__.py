"""A qcore backend whose kernels are compiled by Numba."""

import qcore
from qcore_numba.backend import NumbaBackend


@qcore.hookimpl
def qcore_backend() -> qcore.Backend:
    """The backend of this package."""
    return NumbaBackend()
