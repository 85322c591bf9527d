"""Ways to spoil a file of torch's: its bytes, and the opcodes of its pickles."""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import random
import zipfile

from tests.fuzz.spoil_files import MARK, NUMBERS, TEXTS, spoiled_bytes

_HOSTILE = (
    f"c{MARK}\nf\n", "cos\nsystem\n", "cbuiltins\neval\n", "cbuiltins\ngetattr\n", "ctorch\nload\n",
    "ctorch.storage\n_load_from_bytes\n", "c__builtin__\nset\n", "ccollections\nOrderedDict\n",
    "ctorch\nFloatStorage\n", "ctorch._utils\n_rebuild_tensor_v2\n", "ctorch.nn.modules.linear\nLinear\n",
    "ctorch\nSize\n",
)  # fmt: skip


def opcodes(data: bytes) -> list[bytes]:
    """The opcodes of the pickles that some bytes begin with, with what they are given; the last has what follows."""
    places = [0]
    try:
        while places[-1] < len(data):
            start = places[-1]
            for _, _, at in pickletools.genops(data[start:]):
                places.append(start + at)
            places.append(places[-1] + 1)  # behind the end of this one, another may begin
    except Exception:  # of pickletools, whose list is not written down: what follows is no pickle
        pass
    ends = sorted({*places, len(data)})
    return [data[at:end] for at, end in itertools.pairwise(ends)]


def pickled(own: list[bytes], chance: random.Random) -> bytes:
    """A pickle with opcodes taken out, put in, doubled, or exchanged, or numbers and names in them changed."""
    parts = list(own)
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


class TorchFile:
    """A file of torch.save or torch.jit.save, to be spoiled."""

    def __init__(self, data: bytes) -> None:
        self._data, self._entries = data, dict[str, bytes]()
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as old:
                self._entries = {entry.filename: old.read(entry) for entry in old.infolist()}
        pickles = {name: content for name, content in self._entries.items() if name.endswith("/data.pkl")}
        self._opcodes = {name: opcodes(content) for name, content in (pickles or {"": data}).items()}

    def spoiled(self, chance: random.Random) -> bytes:
        """Its bytes, its pickle, or some of its entries changed."""
        if not self._entries and chance.random() < 0.6:
            return pickled(self._opcodes[""], chance)
        if not self._entries or chance.random() < 0.2:
            return spoiled_bytes(self._data, chance)
        found = {}
        for name, content in self._entries.items():
            if name in self._opcodes:
                content = pickled(self._opcodes[name], chance)
            elif chance.random() < 0.02:
                content = content[: chance.randrange(len(content) + 1)]
            found[name] = content
        return _zipped(found)


def _zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as new:
        for name, content in entries.items():
            new.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()
