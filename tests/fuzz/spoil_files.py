"""Ways to spoil a file: its bytes, and the JSON of its header."""

from __future__ import annotations

import json
import marshal
import random
import struct
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
    "storage", "out", "key", "piece", "self.self",
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
    tag = (
        "range",
        "size",
        "bytes",
        "integer",
        "complex",
        "ordered",
        "tuple",
        "list",
        "dict",
        "items",
        "slice",
        "float",
        "torch",
        "dtype",
        "tensor",
        "node",
        "ellipsis",
        "device",
    )
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


class Tree:
    """Some JSON that is spoiled many times: its places are found once, and each time a fresh copy is changed.

    `first`: the key of a part that half of the changes are made in.
    """

    def __init__(self, own: Any, first: str = "") -> None:
        self._kept = marshal.dumps(own)
        self._paths = _paths(own)
        self._inner = [path for path in self._paths if path[0] == first and len(path) > 1]
        self._alike: dict[tuple[type, type], list[Any]] = {}
        self._named: dict[str, list[Any]] = {}
        for path in self._paths:
            old = _at(own, path)
            self._alike.setdefault((type(path[-1]), type(old)), []).append(old)
            if isinstance(path[-1], str):
                self._named.setdefault(path[-1], []).append(old)
        self._all = [value for values in self._alike.values() for value in values]

    def spoiled(self, chance: random.Random) -> Any:
        """A copy with one to three changes."""
        own = marshal.loads(self._kept)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            path = chance.choice(self._inner if self._inner and chance.random() < 0.5 else self._paths)
            try:
                parent = _at(own, path[:-1])
                parent[path[-1]]
            except (LookupError, TypeError):  # a change before has taken it away
                continue
            if not isinstance(parent, dict | list):
                continue
            (self._exchange if chance.random() < 0.6 else self._change)(parent, path[-1], chance)
        return own

    def _exchange(self, parent: Any, key: Any, chance: random.Random) -> None:
        """Another value of the same type: one that stands under the same name elsewhere, or of those above."""
        old = parent[key]
        if type(old) is bool:
            parent[key] = not old
            return
        others = self._alike.get((type(key), type(old)), [])
        same = self._named.get(key, []) if isinstance(key, str) else []
        pool = chance.choice([pool for pool in (others, same, same, _LISTED.get(type(old))) if pool] or [[old]])
        parent[key] = _copied(chance.choice(pool))

    def _change(self, parent: Any, key: Any, chance: random.Random) -> None:
        how = chance.randrange(10)
        if how < 2:
            parent[key] = value(chance)
        elif how == 2:
            old = parent[key]
            if isinstance(old, str):
                parent[key] = chance.choice(
                    (old + chance.choice(CODE), old[:-1], chance.choice(CODE) + old, old.upper())
                )
            elif isinstance(old, int | float):
                parent[key] = chance.choice((-old, old + 1, old * 2**20, old * 2**40, str(old), [old], not old))
            else:
                parent[key] = value(chance)
        elif how == 3:
            del parent[key]
        elif how == 4:
            parent[key] = _copied(chance.choice(self._all))
        elif how == 5 and isinstance(parent, dict):
            parent[chance.choice(TEXTS)] = parent.pop(key)
        elif how == 6 and isinstance(parent, list):
            parent.insert(chance.randrange(len(parent) + 1), _copied(parent[key]))
        elif how == 7 and isinstance(parent, list):
            chance.shuffle(parent)
        elif how == 8 and isinstance(parent, dict):
            parent[chance.choice(sorted(self._named))] = _copied(chance.choice(self._all))
        else:
            parent[key] = chance.choice(NUMBERS + TEXTS)


_LISTED = {kind: [each for each in NUMBERS + TEXTS + NAMES if type(each) is kind] for kind in (int, float, str)}


def _paths(tree: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    pending: list[tuple[Any, tuple[Any, ...]]] = [(tree, ())]
    while pending:
        at, path = pending.pop()
        keys = at.keys() if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((*path, key))
            pending.append((at[key], (*path, key)))
    return found


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _copied(own: Any) -> Any:
    return marshal.loads(marshal.dumps(own)) if isinstance(own, dict | list) else own


class Safetensors:
    """A file of qcore.save, to be spoiled."""

    def __init__(self, data: bytes) -> None:
        (length,) = struct.unpack("<Q", data[:8])
        head = json.loads(data[8 : 8 + length])
        self._data, self._rest = data, data[8 + length :]
        own = head["__metadata__"].pop("qcore")
        self._header = Tree(json.loads(own), "modules")
        self._tensors = _inside(head)
        self._whole = Tree({**head, "__metadata__": {"qcore": own}})

    def spoiled(self, chance: random.Random) -> bytes:
        """Its bytes, the tensors that it lists, or, most often, its header changed."""
        how = chance.randrange(10)
        if how < 2:
            return spoiled_bytes(self._data, chance)
        if how == 2:
            return self._packed(json.dumps(self._whole.spoiled(chance)))
        own = json.dumps(json.dumps(self._header.spoiled(chance)))
        return self._packed(f'{{"__metadata__":{{"qcore":{own}}}{self._tensors}}}')

    def _packed(self, head: str) -> bytes:
        text = head.encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + self._rest


def _inside(head: dict[str, Any]) -> str:
    """The JSON of what a header lists besides its metadata, to be put behind that."""
    return "".join(f",{json.dumps(key)}:{json.dumps(each)}" for key, each in head.items() if key != "__metadata__")


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
