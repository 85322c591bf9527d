"""written_out: layers of transformers as calls of their parts, for what looks at these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from qcore.process import Shared

_WRITTEN_OUT: ContextVar[bool] = ContextVar("qcore_kernels_written_out", default=False)


class _FastPath:
    """torch's flag for one kernel in place of a transformer's layer, of which it has one for the process: off for those
    within kernels_written_out, and what it was for others, whose results would differ in last bits."""

    def __init__(self, usual: bool) -> None:
        self.usual = usual

    def __bool__(self) -> bool:
        return bool(self.usual) and not _WRITTEN_OUT.get()


@contextmanager
def _flag_by_context() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(_FastPath(before))  # type: ignore[arg-type]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_flag = Shared(_flag_by_context)


@contextmanager
def kernels_written_out() -> Iterator[None]:
    """Within it, layers of transformers call their parts, and not one kernel for all of them."""
    with _flag():
        token = _WRITTEN_OUT.set(True)
        try:
            yield
        finally:
            _WRITTEN_OUT.reset(token)
