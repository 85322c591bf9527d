"""The core with no backend at all: it imports, and says what to install as soon as a backend is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import qcore
from qcore.registry import Registry
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor


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


def test_tensors_from_integers_need_no_backend(empty):
    q = QTensor(torch.tensor([8, 10, 11, 210], dtype=torch.uint8), per_tensor(0.5, 10, qcore.quint8))
    assert q.view(2, 2)[1].int_repr().tolist() == [11, 210]
    assert q.q_scale() == 0.5


def test_quantizing_says_what_to_install():
    code = "import torch, qcore; qcore.quantize_per_tensor(torch.zeros(2), 0.5, 10, qcore.quint8)"
    hidden = {**os.environ, "QCORE_DISABLE_BACKENDS": ",".join(qcore.registry.names())}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=hidden)
    assert done.returncode == 1
    assert "pip install torch-qcore-reference" in done.stderr


def test_a_fresh_registry_finds_what_is_installed_without_importing_it():
    code = (
        "import sys, qcore; names = qcore.registry.names(); print([n for n in sys.modules if n.startswith('qcore_')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert Registry().names() == qcore.registry.names()
