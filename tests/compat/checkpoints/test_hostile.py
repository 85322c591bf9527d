"""Files that are cut, changed or made to do harm: a clear error, nothing run, no memory taken."""

from __future__ import annotations

import collections
import io
import os
import pickle
import random
import resource
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import qcore
from qcore.compat.checkpoints import load

GOLDEN = Path(__file__).parent / "golden"
RAN = []


def ran(*arguments):
    RAN.append(arguments)


class Calling:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def zipped(pickled: bytes, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


@pytest.fixture
def refused(tmp_path):
    """Load bytes; the message of the error."""

    def read(data, **options):
        path = tmp_path / "file.pt"
        path.write_bytes(data)
        with pytest.raises(qcore.ArgumentError, match="cannot be read") as error:
            load(path, **options)
        assert str(path) in str(error.value)
        assert RAN == []
        return str(error.value)

    return read


@pytest.mark.parametrize(
    "payload",
    [
        Calling(os.system, "true"),
        Calling(eval, "ran(1)"),
        Calling(exec, "ran(1)"),
        Calling(getattr, "text", "upper"),
        Calling(ran, 1),
        Calling(pickle.loads, b"N."),
        {"weight": [Calling(__import__, "os")]},
        collections.Counter("ab"),
        Calling(torch.load, "other.pt"),
        Calling(torch.hub.load, "someone/something", "model"),
    ],
    ids=lambda payload: type(payload).__name__,
)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_call_of_anything_else_is_refused_by_name(payload, protocol, container, refused):
    data = pickle.dumps(payload, protocol)
    if container == "legacy":
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        data = b"".join([*head, data, pickle.dumps([], 2)])
    else:
        data = zipped(data)
    assert "not on the list of what a checkpoint may hold" in refused(data)


def test_objects_made_by_what_is_on_the_list_are_not_called(refused):
    # REDUCE on a class that is only noted, and on a value
    for name in ("torch.nn.modules.linear\nLinear", "torch\nqint8", "torch\nScriptObject"):
        assert "which is no constructor" in refused(zipped(b"\x80\x02c" + name.encode() + b"\n)R."))


def test_opcodes_that_torch_does_not_write_are_refused(refused):
    assert "opcode EXT1" in refused(zipped(b"\x80\x02\x82\x01."))
    assert "opcode INST" in refused(zipped(b"\x80\x02(ios\nsystem\n."))
    assert "opcode OBJ" in refused(zipped(b"\x80\x02(ctorch\nqint8\no."))


def state_pickle(size, stride=None, offset=0, numel=4, key="0", storage=b"FloatStorage"):
    """A state dict of one tensor, written by hand."""

    def number(value):
        return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    stride = tuple(1 for _ in size) if stride is None else stride
    reference = b"(" + text(b"storage") + b"ctorch\n" + storage + b"\n" + text(key.encode()) + text(b"cpu")
    reference += number(numel) + b"tQ"
    sizes, strides = (b"(" + b"".join(map(number, each)) + b"t" for each in (size, stride))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + number(offset) + sizes + strides + b"\x89}tR"
    return b"\x80\x02}" + text(b"weight") + tensor + b"s."


def test_the_hand_written_file_is_read(tmp_path):
    (tmp_path / "file.pt").write_bytes(zipped(state_pickle((4,)), {"0": struct.pack("<4f", 1, 2, 3, 4)}))
    assert load(tmp_path / "file.pt")["weight"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (state_pickle((5,)), "does not fit its storage"),
        (state_pickle((2,), (2**40,)), "does not fit its storage"),
        (state_pickle((2**40,), (0,)), "does not fit its storage"),
        (state_pickle((2**31, 2**31, 2**31), (0, 0, 0)), "does not fit its storage"),
        (state_pickle((1,), offset=7), "does not fit its storage"),
        (state_pickle((1,), (1, 1)), "makes no sense"),
        (state_pickle((-1,)), "makes no sense"),
        (state_pickle((4,), numel=2**40), "truncated"),
        (state_pickle((4,), key="1"), "a storage is missing"),
        (state_pickle((4,), key="../data.pkl"), "a storage is missing"),
        (state_pickle((4,), storage=b"QInt8Storage"), "a plain tensor over a storage of qcore.qint8"),
        (state_pickle((4,), storage=b"DoubleStorage"), "truncated"),
        (state_pickle((4,), storage=b"NoStorage"), "not on the list"),
        (b"\x80\x02K", "truncated"),
        (b"\x80\x02", "exhausted"),
        (b"\x80\x02h\x07.", "corrupt"),
        (b"\x80\x02R.", "corrupt"),
        (b"\x80\x02(.", "a mark where a value should be"),
        (b"\x80\x02X\xff\xff\xff\xffab.", "truncated"),
        (b"\x80\x02B\xff\xff\xff\x7fab.", "truncated"),
        (b"\x80\x02})Ns.", "the key of a dict"),
        (b"\x80\x02NK\x01a.", "APPEND on a NoneType"),
        (b"\x80\x02" + b"I" + b"9" * 10_000 + b"\n.", "corrupt"),
    ],
    ids=str,
)
def test_lengths_sizes_and_references_that_lie(pickled, message, refused):
    assert message in refused(zipped(pickled, {"0": bytes(16)}))


def test_a_huge_memo_index_takes_no_memory(refused):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "exhausted" in refused(zipped(b"\x80\x02Nr\xff\xff\xff\xff"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000


def test_deep_nesting_is_read_or_refused_and_does_not_crash(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(zipped(b"\x80\x02" + b")" + b"\x85" * 200_000 + b"."))
    with pytest.raises(qcore.ArgumentError, match="nested too deep"):
        load(path)


def test_archives_that_would_swell_are_refused(refused):
    bomb = zipped(state_pickle((4,)), {"0": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    assert "compressed" in refused(bomb)


def test_archives_with_entries_over_each_other_are_refused(refused):
    data = bytearray(zipped(state_pickle((4,)), {"0": bytes(4000), "1": bytes(16)}))
    second = data.rindex(b"PK\x01\x02")
    data[second + 20 : second + 28] = struct.pack("<II", 4000, 4000)  # sizes of the last entry in the directory
    assert "overlap" in refused(bytes(data))


@pytest.mark.parametrize("file", ["static.pt", "static_legacy.pt", "dynamic_module.pt", "static_scripted.pt"])
def test_every_cut_of_a_file_is_refused(file, refused):
    data = (GOLDEN / file).read_bytes()
    for length in [0, 1, 4, *range(10, len(data), max(1, len(data) // 60)), len(data) - 1]:
        refused(data[:length])


@pytest.mark.parametrize("file", ["static.pt", "static_legacy.pt", "embeddings_4bit_module.pt"])
def test_changed_bytes_are_refused_or_read_but_never_crash(file, tmp_path):
    data = (GOLDEN / file).read_bytes()
    chance = random.Random(0)
    path = tmp_path / "file.pt"
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(changed)
        try:
            load(path)
        except qcore.ArgumentError as error:
            assert str(path) in str(error)
    assert RAN == []


def test_what_is_no_checkpoint_is_told(refused, tmp_path):
    assert "neither a zip archive nor a pickle" in refused(b"hello")
    assert "begins with another number" in refused(pickle.dumps({"a": 1}, 2))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "has no data.pkl" in refused(file.getvalue())
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.pt")


class Own(nn.Module):
    """A module of the user's."""

    def forward(self, x):
        return x


def test_a_class_of_the_users_needs_to_be_allowed(refused, tmp_path):
    file = io.BytesIO()
    torch.save(Own(), file)
    assert "pass it in `allow`" in refused(file.getvalue())
    (tmp_path / "file.pt").write_bytes(file.getvalue())
    assert isinstance(load(tmp_path / "file.pt", allow=[Own]), Own)


def test_a_modules_methods_are_not_replaced(refused):
    module = nn.Linear(2, 2)
    module.__dict__["extra_repr"] = "text"
    file = io.BytesIO()
    torch.save(module, file)
    assert "attribute 'extra_repr'" in refused(file.getvalue())
