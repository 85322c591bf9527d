"""Every test that takes `isa` runs on each instruction set of this CPU."""

import pytest
import torch
from qcore_fbgemm_x86.backend import FbgemmX86


def pytest_generate_tests(metafunc):
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", FbgemmX86().supported_isas())


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
