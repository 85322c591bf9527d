"""Native kernels whose tensors lie at pages that may not be touched: a byte read or written beside one is a crash."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcore.native.backend import NativeBackend

ENDS = ("end", "start")
"""Where a tensor lies: its last byte in front of a forbidden page, or its first one behind one."""

PAGE = mmap.PAGESIZE
_CANARY = 0xA5
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FORBIDDEN = 0  # PROT_NONE, which the module mmap has no name for
_fence = getattr(_libc, "qcore_fence", lambda more: 0)  # of fence.c, where that is preloaded


class Moved:
    """A tensor with the values and strides of another, in pages of its own between two forbidden ones."""

    def __init__(self, original: Tensor, at: str) -> None:
        span = 1 + sum((size - 1) * stride for size, stride in zip(original.shape, original.stride(), strict=True))
        size = span * original.element_size()
        room = -(-size // PAGE) * PAGE
        memory = mmap.mmap(-1, room + 2 * PAGE)  # unmapped with the last tensor over it
        start = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(start)
        del start  # it would keep the memory from being unmapped
        for page in (address, address + PAGE + room):
            if _libc.mprotect(page, PAGE, _FORBIDDEN):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        everything = torch.frombuffer(memory, dtype=torch.uint8, count=room, offset=PAGE)
        everything.fill_(_CANARY)
        first = room - size if at == "end" else 0
        self._around = everything[:first] if at == "end" else everything[size:]
        self._flat = everything[first : first + size].view(original.dtype)
        self._original = original.detach().as_strided((span,), (1,))
        self._flat.copy_(self._original)
        self.tensor = self._flat.as_strided(original.shape, original.stride())

    def finish(self) -> None:
        """Gives the original what was written. Raises AssertionError where something was written beside the tensor."""
        if not bool((self._around == _CANARY).all()):
            raise AssertionError("the kernel wrote beside a tensor")
        self._original.copy_(self._flat)


class Guarded:
    """A native object; tensors that its methods are given are moved for the call, as are those of what it returns."""

    def __init__(self, native: Any, at: str) -> None:
        self._native, self._at = native, at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._native, name)
        return _Method(found, self._at) if callable(found) else found


class _Method:
    def __init__(self, run: Any, at: str) -> None:
        self._run, self._at = run, at

    def __call__(self, *args: Any) -> Any:
        moved: dict[Any, Moved] = {}
        placed = [self._placed(arg, moved) for arg in args]
        _fence(1)
        try:
            result = self._run(*placed)
        finally:
            _fence(-1)
        for each in moved.values():
            each.finish()
        return Guarded(result, self._at) if type(result).__module__.startswith("qcore_") else result

    def _placed(self, arg: Any, moved: dict[Any, Moved]) -> Any:
        if isinstance(arg, Guarded):
            return arg._native
        if isinstance(arg, list | tuple) and not isinstance(arg, torch.Size):
            return type(arg)(self._placed(item, moved) for item in arg)
        if not isinstance(arg, Tensor) or not arg.numel() or arg.device.type != "cpu":
            return arg
        key = arg.data_ptr(), arg.shape, arg.stride(), arg.dtype
        if key not in moved:  # one that is given twice is one memory in the call too
            moved[key] = Moved(arg, self._at)
        return moved[key].tensor


def unfenced() -> int | None:
    """How many pieces of memory the fenced heap (fence.c) had no room for; None where it is not preloaded."""
    return _libc.qcore_unfenced() if hasattr(_libc, "qcore_unfenced") else None


def with_kernels(backend: NativeBackend, kernels: Any) -> NativeBackend:
    """A backend like this one on other kernels."""

    class Other(type(backend)):  # type: ignore[misc]
        def kernels(self, isa: str | None = None) -> Any:
            return kernels

    return Other()


def guarded(backend: NativeBackend, isa: str, at: str) -> NativeBackend:
    """A backend like this one on kernels of one instruction set that are Guarded."""
    return with_kernels(backend, Guarded(backend.kernels(isa), at))


def with_fence(folder: Path) -> dict[str, str]:
    """The environment of a process that fences what native calls allocate (fence.c); as it is without a compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    library = folder / "fence.so"
    command = [compiler, "-O1", "-shared", "-fPIC", Path(__file__).with_name("fence.c"), "-o", library]
    if compiler is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return dict(os.environ)
    return os.environ | {"LD_PRELOAD": str(library)}
