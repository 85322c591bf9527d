"""A file of checks that are known to fail."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=8)
def entries(path: str | None) -> frozenset[str]:
    """The names in a file, one a line, without comments; none for no file."""
    if path is None:
        return frozenset()
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
    return frozenset(line for line in lines if line)
