"""Which module's forward a call comes from, for messages."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch import nn

_CALLING = ("_call_impl", "_wrapped_call_impl", "_slow_forward")


def place() -> str:
    """The innermost module whose code runs, by its path in the outermost, and the line; empty outside of modules."""
    frame: FrameType | None = sys._getframe(1)
    line = ""
    inner: Any = None
    outer: Any = None
    while frame is not None:
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount and code.co_name not in _CALLING else None
        if isinstance(owner, nn.Module):
            line = line or f"line {frame.f_lineno} of {frame.f_code.co_filename}"
            inner, outer = owner if inner is None else inner, owner  # a module may have a length
        frame = frame.f_back
    if inner is None:
        return ""
    path = next((path for path, module in outer.named_modules() if module is inner), "")
    return f"{f'module {path!r}' if path else 'the model'} ({type(inner).__name__}), {line}"
