"""What became of a call, and whether that is right."""

from __future__ import annotations

import hashlib
import os
import re
import traceback
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import qcore
from tests.fuzz.entries import Entry

BINDING = re.compile(r"^[\w.<>]*?(\w+)\(\) (missing|takes|got an unexpected|got multiple|got some positional|argument)")
"""Python's own words for arguments that a signature has no place for."""
SCHEMA = re.compile(r"qcore::\w+\(|Could not run 'qcore::|There were no tensor arguments")
"""torch's own words for values that the schema of a custom op has no place for, or a device without the op."""
MEMORY = re.compile(r"DefaultCPUAllocator: can't allocate memory|Storage size calculation overflowed")
"""torch's own words, in which the size stands, for tensors that are really as large as that."""

OF_KERNELS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, OverflowError)
"""Of a backend's kernel that is called without qcore: its own words, and Python's for objects of another kind and
numbers of more bits."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a call: `message` is normalised, so that equal ones are of one kind."""

    entry: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.kind}: {self.message}"


def normalised(text: str) -> str:
    """A message without what differs between calls: numbers, addresses, what is quoted."""
    text = re.sub(r"0x[0-9a-f]+", "@", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    text = re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "(...)", text)
    text = re.sub(r"-?\d[\d.e+-]*|\bnan\b|\binf\b", "N", text)
    return " ".join(text.split())[:160]


def where(error: BaseException) -> str:
    """File and function of the deepest frame of qcore, by which errors of one cause are told."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "/qcore" in each.filename]
    own = [each for each in frames if "/tests/" not in each.filename]
    if not own:
        return ""
    last = own[-1]
    return f" [{last.filename.rpartition('/qcore')[2].lstrip('/')}:{last.lineno} {last.name}]"


def finding(entry: Entry, error: BaseException, given: Any = ()) -> Finding | None:
    """What is wrong with an exception of a call, or None where it is right; `given`: its arguments."""
    if isinstance(error, qcore.QcoreError):
        return None if len(str(error)) >= 15 else Finding(entry.name, "says too little", repr(error))
    told = Finding(entry.name, type(error).__name__, normalised(str(error)) + where(error))
    if isinstance(error, MemoryError):
        return told
    too_large = isinstance(error, RuntimeError) and MEMORY.search(str(error))
    if too_large or (isinstance(error, OSError) and _names_a_file(given)) or _of_the_users(error):
        return None
    if entry.kind == "kernel" and isinstance(error, OF_KERNELS):
        return None
    if entry.kind == "native" and isinstance(error, TypeError | ValueError | IndexError):
        return None
    if entry.kind == "op" and isinstance(error, RuntimeError) and SCHEMA.match(str(error)):
        return None
    if isinstance(error, TypeError):
        found = BINDING.match(str(error))
        if found and "<locals>" in str(error):
            return None  # a function of the program's own
        if found and found[1] in (entry.short, "forward", "__init__", "__new__", "call", "<lambda>", "from_float"):
            return None
        if not where(error):
            return None
    return told


def _names_a_file(given: Any) -> bool:
    return any(isinstance(each, str | bytes | os.PathLike) for each in tree_leaves(given))


def _of_the_users(error: BaseException) -> bool:
    """Whether a function that a program gave has raised, which is called from within qcore."""
    frames = [each.filename for each in traceback.extract_tb(error.__traceback__)]
    inside = next((place for place, name in enumerate(frames) if "/qcore/" in name), len(frames))
    return any("/tests/" in name for name in frames[inside:])


# --- fingerprints ---------------------------------------------------------------------------------------------------


def fingerprint(value: Any, depth: int = 6) -> str:
    """The same for equal values: every tensor's bytes, every field; addresses and functions do not count."""
    digest = hashlib.blake2b(digest_size=12)
    _feed(digest, value, depth, {})
    return digest.hexdigest()


def _feed(digest: Any, value: Any, depth: int, seen: dict[int, int]) -> None:
    if depth < 0:
        return
    if id(value) in seen and not isinstance(value, int | float | str | bytes | bool | None):
        digest.update(b"again")
        return
    seen[id(value)] = 1
    digest.update(type(value).__name__.encode())
    if isinstance(value, qcore.QTensor):
        _feed(digest, value.raw, depth - 1, seen)
        _feed(digest, [value.qparams.scale, value.qparams.zero_point, value.qparams.axis], depth - 1, seen)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype}{value.layout}{value.device}".encode())
        if value.device.type == "cpu" and value.layout is torch.strided and not value.is_nested:
            digest.update(str(tuple(value.shape)).encode())
            if value.numel() < 1_000_000:
                plain = value.detach().resolve_conj().resolve_neg().contiguous()
                digest.update(plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, nn.Module):
        for name, each in sorted({**value._parameters, **value._buffers, **value._modules}.items()):
            digest.update(name.encode())
            _feed(digest, each, depth, seen)
        _feed_fields(digest, value, depth, seen)
    elif isinstance(value, list | tuple):
        digest.update(str(len(value)).encode())
        for each in value[:1000]:
            _feed(digest, each, depth - 1, seen)
    elif isinstance(value, dict):
        for key, each in list(value.items())[:1000]:
            digest.update(str(key).encode() if isinstance(key, str | int) else b"")
            _feed(digest, each, depth - 1, seen)
    elif isinstance(value, int | float | str | bytes | bool | complex | None):
        digest.update(repr(value).encode())
    elif type(value).__module__.startswith("qcore") and hasattr(value, "__dict__"):
        _feed_fields(digest, value, depth, seen)


def _feed_fields(digest: Any, value: Any, depth: int, seen: dict[int, int]) -> None:
    for name, each in sorted(vars(value).items()):
        # what starts with an underscore is a cache, of kernels or of what was computed from the rest
        if not name.startswith("_") and not callable(each):
            digest.update(name.encode())
            _feed(digest, each, depth - 1, seen)


def outcome(result: Any, error: BaseException | None) -> tuple[str, ...]:
    """By which two runs of one call are compared."""
    if error is not None:
        return type(error).__name__, normalised(str(error))
    try:
        return ("gave", fingerprint(result))
    except Exception as problem:  # a result that cannot be read, as fake or broken tensors cannot
        return ("gave", type(result).__name__, type(problem).__name__)
