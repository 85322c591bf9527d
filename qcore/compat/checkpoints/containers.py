"""The two containers that torch.save writes: a zip archive, and before torch 1.6 a sequence of pickles."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from qcore.compat.checkpoints.tensors import Storage, StorageKind, storage
from qcore.compat.checkpoints.unpickle import Constructor, Resolve, StoredClass, unpickle
from qcore.errors import ArgumentError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"


class Archive:
    """A zip archive with `data.pkl`, and the storages beside it."""

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            entries = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise ArgumentError(f"its zip archive is truncated or corrupt ({error})") from error
        # entries of weights are stored as they are, so that none can swell; those of a script's code are not read
        self._packed = {entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED}
        if sum(entry.file_size for entry in entries if entry.filename not in self._packed) > len(data):
            raise ArgumentError("the entries of its zip archive are larger than the file: they overlap")
        self._names = {entry.filename for entry in entries}
        tops = {name.partition("/")[0] for name in self._names if name.count("/") == 1 and name.endswith("/data.pkl")}
        if len(tops) != 1:
            raise ArgumentError("its zip archive has no data.pkl: torch.save and torch.jit.save did not write it")
        (self._top,) = tops
        if "byteorder" in self and self.read("byteorder") != b"little":
            raise ArgumentError("it was written on a big-endian machine; write it again on a little-endian one")

    def __contains__(self, name: str) -> bool:
        return f"{self._top}/{name}" in self._names

    @property
    def is_scripted(self) -> bool:
        """Whether torch.jit.save wrote it."""
        return "constants.pkl" in self

    def read(self, name: str) -> bytes:
        """The bytes of one entry."""
        if name not in self:
            raise ArgumentError(f"its zip archive has no entry {name!r}: a storage is missing")
        if f"{self._top}/{name}" in self._packed:
            raise ArgumentError(f"entry {name!r} of its zip archive is compressed, which torch's never are")
        try:
            return self._zip.read(f"{self._top}/{name}")
        except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
            raise ArgumentError(f"entry {name!r} of its zip archive is corrupt ({error})") from error

    def load(self, resolve: Resolve) -> Any:
        """The object in data.pkl."""
        storages: dict[str, Storage] = {}

        def persistent(reference: Any) -> Any:
            if _is_class(reference):
                return reference[1]
            kind, key, numel = _reference(reference)
            if key not in storages:
                found = storage(kind, bytearray(self.read(f"data/{key}")))
                if found.flat.numel() < numel:
                    raise ArgumentError(f"storage {key} has {found.flat.numel()} elements of {numel}: truncated")
                storages[key] = found
            return storages[key]

        return unpickle(io.BytesIO(self.read("data.pkl")), resolve, persistent)


def load_legacy(data: bytes, resolve: Resolve) -> Any:
    """The object of a file of the older container."""
    file = io.BytesIO(data)

    def plain() -> Any:
        return unpickle(file, _no_names, _no_storages)

    if plain() != _MAGIC or plain() != _PROTOCOL:
        raise ArgumentError("torch.save did not write it: it begins with another number")
    info = plain()
    if not isinstance(info, dict) or not info.get("little_endian", True):
        raise ArgumentError("it was written on a big-endian machine; write it again on a little-endian one")
    start = file.tell()
    kinds: dict[str, tuple[StorageKind, int]] = {}

    # the bytes follow the pickle that says what they are: it is read once for that, and again when they are there
    def without_data(module: str, name: str) -> Any:
        found = resolve(module, name)
        return Constructor(lambda *_: None) if isinstance(found, Constructor) and found.needs_data else found

    def noted(reference: Any) -> Any:
        if _is_class(reference):
            return reference[1]
        kind, key, numel = _reference(reference)
        kinds[key] = kind, numel
        return None

    unpickle(file, without_data, noted)
    keys = plain()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(kinds):
        raise ArgumentError("it is corrupt: its list of storages is not what its tensors refer to")
    filled = {key: _bytes_of(file, *kinds[key]) for key in keys}
    file.seek(start)
    return unpickle(file, resolve, lambda it: it[1] if _is_class(it) else filled[_reference(it)[1]])


def _bytes_of(file: io.BytesIO, kind: StorageKind, numel: int) -> Storage:
    head = file.read(8)
    if len(head) < 8:
        raise ArgumentError("it is truncated: a storage is missing")
    (count,) = struct.unpack("<q", head)
    size = count * kind.plain.itemsize
    data = file.read(size) if 0 <= count <= numel else b""
    if len(data) != size:
        raise ArgumentError(f"it is truncated: a storage of {numel} elements is missing or not whole")
    return storage(kind, bytearray(data))


def _is_class(reference: Any) -> bool:
    """Whether a reference is to the class of a module, which the older container keeps with its source text."""
    is_class = isinstance(reference, tuple) and len(reference) == 4 and reference[0] == "module"
    return is_class and isinstance(reference[1], StoredClass)


def _reference(reference: Any) -> tuple[StorageKind, str, int]:
    """Kind, key and number of elements of what a pickle says of a storage; where it lay does not matter."""
    fits = isinstance(reference, tuple) and len(reference) in (5, 6) and reference[0] == "storage"
    if not fits or not isinstance(reference[1], StorageKind):
        raise ArgumentError(f"it refers to something that is no storage: {str(reference)[:80]}")
    kind, key, numel = reference[1], reference[2], reference[4]
    if not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
        raise ArgumentError(f"it refers to a storage {str(key)[:80]!r} of {numel!r} elements")
    if len(reference) == 6 and reference[5] is not None:
        raise ArgumentError("it has storages that are views of others, as torch before 0.4 wrote")
    return kind, key, numel


def _no_names(module: str, name: str) -> Any:
    raise ArgumentError(f"its header names {module}.{name}; nothing was run")


def _no_storages(reference: Any) -> Any:
    raise ArgumentError("its header refers to a storage")


def read(data: bytes, resolver: Callable[[bool], Resolve]) -> tuple[Any, bool]:
    """The object of a file, and whether it is a scripted archive; `resolver(is_scripted)` gives the list of names."""
    if data[:4] == _ZIP:
        archive = Archive(data)
        return archive.load(resolver(archive.is_scripted)), archive.is_scripted
    if not data.startswith(b"\x80"):
        raise ArgumentError("it is neither a zip archive nor a pickle: torch.save and torch.jit.save did not write it")
    return load_legacy(data, resolver(False)), False


def names(file: BinaryIO) -> set[str]:
    """The full names that the pickles of a file have in them, found without running them; none where it is another kind
    of file. The storages are not read; the file is left where it was."""
    start = file.tell()
    try:
        if file.read(4) == _ZIP:
            file.seek(start)
            with zipfile.ZipFile(file) as archive:
                tops = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
                return _named(io.BytesIO(archive.read(tops[0]))) if tops else set()
        file.seek(start)
        return set().union(*(_named(file) for _ in range(_LEGACY_PICKLES)))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError, OSError):
        return set()
    finally:
        file.seek(start)


_LEGACY_PICKLES = 4
"""Magic number, protocol, machine, object."""


def _named(pickle: BinaryIO) -> set[str]:
    found: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL":
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(texts[-2:]))
        elif isinstance(argument, str):
            texts.append(argument)
    return found
