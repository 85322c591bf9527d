"""State of the whole process that a block of code changes, where nothing narrower exists: safe beside other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager


class Shared:
    """A block that any number of threads may be in: the first to enter makes the change, the last to leave undoes it.

    `change` makes the context manager of the change. So no thread takes for the usual state what another has made, and
    the usual state is back when all are done.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._current: AbstractContextManager[object] | None = None

    def __call__(self) -> Shared:
        return self

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                current = self._change()
                current.__enter__()
                self._current = current
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._current is not None:
                current, self._current = self._current, None
                current.__exit__(None, None, None)


TRACING = threading.RLock()
"""Held while qcore lets torch trace, script or export: torch patches classes and sets flags of the process for that."""
