"""Each case of the kit on kernels whose tensors lie at forbidden pages, and that these tell what goes beyond."""

import shutil
import sys

import pytest
import torch

from qcore.registry import registry
from tests.native import guard_pages
from tests.native.guarded import ENDS, PAGE, Guarded, Moved


@pytest.mark.skipif(not registry.status("fbgemm_x86").availability.ok, reason="fbgemm_x86 cannot run here")
def test_kernels_touch_nothing_beside_their_tensors(capfd):
    findings = guard_pages.main(["fbgemm_x86", "--quick", "--drawn", "0", "--graphs", "15", "--every", "3", "--share"])
    assert not findings, capfd.readouterr().out


@pytest.mark.parametrize("at", ENDS)
def test_a_moved_tensor_is_the_tensor(at):
    for shape, stride in (((3, 5), (5, 1)), ((2, 3, 4, 5), (60, 1, 15, 3)), ((7,), (2,)), ((4, 3), (0, 1)), ((), ())):
        for dtype in (torch.uint8, torch.float32, torch.int64):
            original = torch.arange(200).to(dtype).as_strided(shape, stride)
            moved = Moved(original, at)
            assert torch.equal(moved.tensor, original)
            assert moved.tensor.stride() == original.stride()
            beyond = moved.tensor.data_ptr() if at == "start" else moved.tensor.data_ptr() + moved._flat.nbytes
            assert beyond % PAGE == 0
            moved.tensor.zero_()
            moved.finish()
            assert not original.any()


class Native:
    """Stands for kernels that write a byte further than they may."""

    def __init__(self, offset):
        self.offset = offset

    def run(self, tensor):
        tensor.as_strided((1,), (1,), tensor.storage_offset() + self.offset).fill_(1)


@pytest.mark.parametrize(("at", "offset"), [("end", -1), ("start", 10)])
def test_a_byte_written_beside_a_tensor_is_told(at, offset):
    with pytest.raises(AssertionError, match="wrote beside"):
        Guarded(Native(offset), at).run(torch.zeros(10, dtype=torch.uint8))
    Guarded(Native(offset + (1 if at == "end" else -1)), at).run(torch.zeros(10, dtype=torch.uint8))


READS_BEYOND = """
import ctypes, os, torch
from tests.native.guarded import Moved
for at, beyond in ("end", 10), ("start", -1):
    tensor = Moved(torch.zeros(10, dtype=torch.uint8), at).tensor
    ctypes.string_at(tensor.data_ptr(), 10)
    child = os.fork()
    if not child:
        ctypes.string_at(tensor.data_ptr() + beyond, 1)
        os._exit(0)
    print(at, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_byte_read_beyond_is_a_crash():
    done = guard_pages.python("-c", READS_BEYOND, fenced=False)
    assert done.stdout == "end -11\nstart -11\n", done.stderr


TOUCHES = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.qcore_fence(1)
memory = libc.malloc(48)
libc.qcore_fence(-1)
ctypes.memset(memory, 1, 48)
print("inside is fine", flush=True)
{then}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the fenced heap is for glibc")
@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler on this machine")
@pytest.mark.parametrize("then", ["ctypes.string_at(memory + 48, 1)", "libc.free(memory); ctypes.string_at(memory, 1)"])
def test_memory_beside_what_a_native_call_allocated_and_freed_memory_are_crashes(then):
    done = guard_pages.python("-c", TOUCHES.format(then=then))
    assert done.stdout == "inside is fine\n", done.stderr
    assert done.returncode == -11
