"""Names that may become source: of values, arguments, attributes and parts of paths in a graph."""

from __future__ import annotations

import keyword
from typing import Any


def is_name(name: object) -> bool:
    """Whether a string may be a name in code: an identifier of ASCII, but no keyword, and no name of Python's own."""
    fits = isinstance(name, str) and len(name) < 1000 and name.isascii() and name.isidentifier()
    return fits and not keyword.iskeyword(str(name)) and not str(name).startswith("__")


def is_part(name: object) -> bool:
    """Whether a string may be one part of a module's path: printable, without what would end a quoted string."""
    fits = isinstance(name, str) and 0 < len(name) < 1000 and name.isprintable()
    return fits and not set(str(name)) & set("\"\\'.") and not str(name).startswith("__")


def is_path(path: object) -> bool:
    """Whether a string may be the path of a module or tensor."""
    return isinstance(path, str) and len(path) < 2**16 and all(map(is_part, path.split(".")))


class Path(str):
    """The path of a module or tensor with a keyword of Python's in it, as torch.fx writes it into code: it asks the
    parts whether they are identifiers, and only what is none it reads by getattr."""

    def split(self, sep: Any = None, maxsplit: Any = -1) -> list[str]:
        """The parts."""
        return [_Keyword(part) if keyword.iskeyword(part) else part for part in super().split(sep, maxsplit)]


class _Keyword(str):
    def isidentifier(self) -> bool:
        return False


def as_path(target: str) -> str:
    """A target that torch.fx can write into code."""
    return Path(target) if any(map(keyword.iskeyword, target.split("."))) else target
