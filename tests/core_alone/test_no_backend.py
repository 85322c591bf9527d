"""The core with no backend at all: it imports, and says what to install as soon as a backend is needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.registry import Registry


@pytest.fixture
def empty(monkeypatch):
    """The process's registry with every installed backend disabled."""
    monkeypatch.setenv("QCORE_DISABLE_BACKENDS", ",".join(qcore.registry.names()))
    return qcore.registry


def test_there_is_no_backend(empty):
    assert empty.names() == []
    assert empty.statuses() == []


def test_choosing_says_what_to_install(empty):
    with pytest.raises(qcore.BackendError, match="pip install torch-qcore-reference"):
        empty.choose()


def test_preparing_says_what_to_install_and_leaves_the_model_alone(empty):
    model = nn.Sequential(qcore.QuantStub(), nn.Linear(2, 2), qcore.DeQuantStub())
    before = dict(model.named_modules())
    with pytest.raises(qcore.BackendError, match="no qcore backend is installed"):
        qcore.prepare(model, inplace=True)
    assert dict(model.named_modules()) == before
    assert not hasattr(model[1], "qconfig")


def test_tensors_need_no_backend(empty):
    x = torch.tensor([-1.0, 0.0, 0.26, 100.0])
    q = qcore.quantize_per_tensor(x, 0.5, 10, qcore.quint8)
    assert q.int_repr().tolist() == [8, 10, 11, 210]
    assert q.dequantize().tolist() == [-1.0, 0.0, 0.5, 100.0]
    assert q.view(2, 2)[1].int_repr().tolist() == [11, 210]


def test_a_fresh_registry_finds_what_is_installed_without_importing_it():
    import subprocess
    import sys

    code = (
        "import sys, qcore; names = qcore.registry.names(); print([n for n in sys.modules if n.startswith('qcore_')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert Registry().names() == qcore.registry.names()
