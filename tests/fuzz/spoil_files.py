"""Ways to spoil a file: its bytes, the JSON of its header, the opcodes of its pickles."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from qcore.api._saving.arguments import known
from qcore.fx.callables import functions, methods
from qcore.operators import operators

MARK = "code_of_the_file_ran"
"""A module that no file may import; hostile strings do."""

CODE = (
    f"__import__('{MARK}')",
    f"x): __import__('{MARK}') #",
    f"*[__import__('{MARK}')][:0], y",
    f'a"), __import__("{MARK}"), (("',
    f"a\n    import {MARK}\n",
    f"{{__import__('{MARK}')}}",
    "os.system", "builtins.exec", "builtins.eval", "builtins.__import__", "torch.load", "torch.hub.load", "torch.ops",
    "__class__", "__init__", "__reduce__", "__dict__", "__globals__", "__builtins__", "_modules", "_graph", "forward",
    "training", "qcore_runs_on", "qcore_fixed", "qcore_report", "executor", "graph", "code", "recompile", "class",
    "None", "self", "getattr", "apply_", "map_", "data_ptr", "set_", "resize_", "as_strided", "numpy", "register_hook",
    "storage",
)  # fmt: skip
TEXTS = (
    *CODE, "", ".", "..", "a.", ".a", "\x00", "\ud800", "é", "ß" * 50, "a" * 70_000, "../../x", "inf", "-inf", "nan",
    "1e400", "quint8", "qint8", "qint32", "quint4x2", "torch.nn.Transformer", "torch.nn.LSTM", "torch.nn.Sequential",
    "torch.nn.Upsample", "torch.nn.Linear", "torch.nn.Embedding", "torch.nn.MaxPool2d", "qcore.nn.quantized.Linear",
    "qcore.fx.Operation", "qcore.fx.Constant", "qcore.fx.QuantizedGraphModule", "reference", "auto", "add", "cat",
    "lookup", "reshape", "expand", "repeat", "operator.pow", "operator.getitem", "builtins.getattr", "torch.zeros",
    "torch.cat", "placeholder", "call_function", "call_method", "call_module", "get_attr", "output", "parameter",
)  # fmt: skip
NAMES = tuple(
    sorted([*functions(), *methods(), *known(), *operators(), "scale", "weight", "bias", "kernel_size", "num_layers"])
)
NUMBERS = (
    0, 1, -1, 2, 3, 7, 255, 256, 257, -128, 2**15, 2**16, 10**8, 2**31 - 1, 2**31, -(2**31), 2**32, 2**47, 2**62,
    2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1e-45, 1e-320, 1e300, -1e300, 3.0,
)  # fmt: skip


def value(chance: random.Random) -> Any:
    """A value of any kind that JSON has, or that a header means something by."""
    kind = chance.randrange(12)
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind < 7:
        return chance.choice(TEXTS)
    if kind == 7:
        return chance.choice((None, True, False, [], {}, [[]], [None], float("inf"), float("nan")))
    tag = ("tuple", "list", "dict", "items", "slice", "float", "torch", "dtype", "tensor", "node", "ellipsis", "device")
    inside = [chance.choice(NUMBERS) for _ in range(chance.randrange(4))]
    if kind == 8:
        return {chance.choice(tag): chance.choice((inside, chance.choice(TEXTS), {}, True))}
    if kind == 9:
        return {"dict": {chance.choice(TEXTS): chance.choice(NUMBERS)}}
    if kind == 10:
        return {"operator": chance.choice(TEXTS), "settings": {"dict": {chance.choice(TEXTS): inside}}}
    deep: Any = 1
    for _ in range(chance.choice((3, 30, 120))):
        deep = {"tuple": [deep]}
    return deep


def _places(tree: Any, found: list[tuple[Any, Any]]) -> None:
    pending = [tree]
    while pending:
        at = pending.pop()
        keys = at.keys() if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((at, key))
            pending.append(at[key])


def header(own: Any, chance: random.Random) -> Any:
    """A header with one to three changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found: list[tuple[Any, Any]] = []
        _places(own, found)
        parent, key = chance.choice(found)
        # most of a header is its state and report; half of the changes go to modules and graphs
        if chance.random() < 0.5:
            inner: list[tuple[Any, Any]] = []
            _places(own.get("modules") if isinstance(own, dict) else own, inner)
            if inner:
                parent, key = chance.choice(inner)
        if chance.random() < 0.6:
            _exchange(parent, key, found, chance)
        else:
            _change(parent, key, found, chance)
    return own


def _exchange(parent: Any, key: Any, found: list[tuple[Any, Any]], chance: random.Random) -> None:
    """Another value of the same type: one that stands under the same name elsewhere, or of those above."""
    old = parent[key]
    if type(old) is bool:
        parent[key] = not old
        return
    others = [
        at[name] for at, name in found if type(name) is type(key) and _has(at, name) and type(at[name]) is type(old)
    ]
    same = [at[name] for at, name in found if name == key and isinstance(key, str) and _has(at, name)]
    listed: tuple[Any, ...] = NUMBERS + TEXTS + NAMES
    known = [each for each in listed if type(each) is type(old)]
    pool = chance.choice([pool for pool in (others, same, same, known) if pool] or [[old]])
    parent[key] = json.loads(json.dumps(chance.choice(pool)))


def _has(at: Any, name: Any) -> bool:
    return name in at if isinstance(at, dict) else isinstance(name, int) and name < len(at)


def _change(parent: Any, key: Any, found: list[tuple[Any, Any]], chance: random.Random) -> None:
    how = chance.randrange(9)
    if how < 2:
        parent[key] = value(chance)
    elif how == 2:
        old = parent[key]
        if isinstance(old, str):
            parent[key] = chance.choice((old + chance.choice(CODE), old[:-1], chance.choice(CODE) + old, old.upper()))
        elif isinstance(old, int | float):
            parent[key] = chance.choice((-old, old + 1, old * 2**20, old * 2**40, str(old), [old], not old))
        else:
            parent[key] = value(chance)
    elif how == 3:
        del parent[key]
    elif how == 4:
        other, name = chance.choice(found)
        if _has(other, name):
            parent[key] = json.loads(json.dumps(other[name]))
    elif how == 5 and isinstance(parent, dict):
        parent[chance.choice(TEXTS)] = parent.pop(key)
    elif how == 6 and isinstance(parent, list):
        parent.insert(chance.randrange(len(parent) + 1), json.loads(json.dumps(parent[key])))
    elif how == 7 and isinstance(parent, list):
        chance.shuffle(parent)
    else:
        parent[key] = chance.choice(NUMBERS + TEXTS)


def safetensors(data: bytes, chance: random.Random) -> bytes:
    """A file of qcore.save, spoiled."""
    how = chance.randrange(10)
    if how < 2:
        return spoiled_bytes(data, chance)
    (length,) = struct.unpack("<Q", data[:8])
    head, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    if how == 2:
        return _packed(header(head, chance), rest, length)
    own = header(json.loads(head["__metadata__"]["qcore"]), chance)
    head["__metadata__"]["qcore"] = json.dumps(own)
    return _packed(head, rest, None)


def _packed(head: Any, rest: bytes, length: int | None) -> bytes:
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + rest


def spoiled_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut, put in or taken out; most often in the first of them, which say what the others are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        top = len(changed) if chance.random() < 0.3 else min(len(changed), 4096)
        at, how = chance.randrange(max(top, 1)), chance.randrange(5)
        if how == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 1 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            del changed[at : at + chance.choice((1, 2, 8, 64))]
        elif how == 3:
            changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 8))))
        else:
            del changed[chance.randrange(len(changed) + 1) :]
            if not changed:
                break
    return bytes(changed)


# --- pickles ----------------------------------------------------------------------------------------------------------

_HOSTILE = (
    f"c{MARK}\nf\n", "cos\nsystem\n", "cbuiltins\neval\n", "cbuiltins\ngetattr\n", "ctorch\nload\n",
    "ctorch.storage\n_load_from_bytes\n", "c__builtin__\nset\n", "ccollections\nOrderedDict\n",
    "ctorch\nFloatStorage\n", "ctorch._utils\n_rebuild_tensor_v2\n", "ctorch.nn.modules.linear\nLinear\n",
    "ctorch\nSize\n",
)  # fmt: skip


def pickled(data: bytes, chance: random.Random) -> bytes:
    """A pickle with opcodes taken out, put in, doubled, or exchanged, or numbers and names in them changed."""
    try:
        places = [(at, op.name) for op, _, at in pickletools.genops(data)]
    except Exception:
        return spoiled_bytes(data, chance)
    ends = [at for at, _ in places[1:]] + [len(data)]
    parts = [data[at:end] for (at, _), end in zip(places, ends, strict=True)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, how = chance.randrange(len(parts)), chance.randrange(7)
        if how == 0:
            del parts[at]
        elif how == 1:
            parts.insert(at, parts[chance.randrange(len(parts))])
        elif how == 2:
            parts.insert(at, chance.choice(_HOSTILE).encode() + chance.choice((b"", b")R", b")\x81", b"}b")))
        elif how == 3:
            parts[at] = pickle.dumps(chance.choice(NUMBERS + TEXTS[:20]), 2, fix_imports=False)[2:-1]
        elif how == 4:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif how == 5:
            parts[at] = spoiled_bytes(parts[at], chance) if parts[at] else parts[at]
        else:
            parts.insert(
                at, chance.choice((b"(", b")", b"}", b"]", b"0", b"1", b"2", b"R", b"b", b"s", b"u", b"e", b"a", b"t"))
            )
        if not parts:
            break
    return b"".join(parts)


def torch_file(data: bytes, chance: random.Random) -> bytes:
    """A file of torch.save or torch.jit.save, spoiled."""
    if not data.startswith(b"PK") or chance.random() < 0.2:
        return (
            pickled(data, chance)
            if not data.startswith(b"PK") and chance.random() < 0.5
            else spoiled_bytes(data, chance)
        )
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("/data.pkl"):
                content = pickled(content, chance)
            elif chance.random() < 0.02:
                content = content[: chance.randrange(len(content) + 1)]
            new.writestr(entry.filename, content)
    return stream.getvalue()


Spoil = Callable[[bytes, random.Random], bytes]
