"""Threads that call, trace, script, prepare, convert and register at once get what one thread gets."""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
import torch
from qcore_reference.backend import Reference
from torch import nn
from torch.utils._pytree import tree_leaves

import qcore
from qcore.api.qconfig_mapping import get_default_qconfig_mapping
from qcore.process import Shared
from qcore.tensor import recording

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::DeprecationWarning"),
    pytest.mark.skipif(not hasattr(torch, "ao"), reason="this torch's tracer needs its legacy stack"),
]
THREADS, JOBS = 6, 80


class Net(nn.Module):
    """With a layer of a transformer, of which torch has a kernel of its own that a trace must not take."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.encoder, self.last = nn.Conv1d(4, 8, 3, padding=1), None, nn.Linear(8, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        y = torch.relu(self.conv(x)).transpose(1, 2)
        return self.last(self.encoder(y) + y).mean(1)


def converted(seed):
    model, x = Net(seed).eval(), torch.randn(2, 4, 6)
    prepared = qcore.prepare_fx(model, get_default_qconfig_mapping(), (x,))
    prepared(x)
    return qcore.convert_fx(prepared)


def numbers(seed):
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))


def quantized(x):
    return qcore.quantize_per_tensor(x, 0.05, 128, qcore.quint8)


def of_tensors(x):
    y = torch.relu(quantized(x))
    return torch.cat([y, y.flip(-1)], -1).flatten(1).mean(-1).dequantize(), torch.max(y.dequantize())


class Jobs:
    """What a thread may do; each is a function of a number."""

    def __init__(self):
        self.static, self.dynamic = converted(0), qcore.quantize_dynamic(Net(1).eval())
        self.floats = Net(2).eval()
        self.recurrent = qcore.quantize_dynamic(nn.Sequential(nn.LSTM(6, 5)).eval())
        self.lock = threading.Lock()

    def call(self, seed):
        return self.static(numbers(seed))

    def call_dynamic(self, seed):
        return self.dynamic(numbers(seed))

    def call_recurrent(self, seed):
        return self.recurrent(numbers(seed))

    def functions(self, seed):
        return of_tensors(numbers(seed))

    def trace(self, seed):
        return torch.jit.trace(of_tensors, (numbers(seed),), check_trace=False)(numbers(seed + 1))

    def trace_recurrent(self, seed):
        with self.lock:  # torch.jit.trace keeps the names of a module's parts for the whole process
            traced = torch.jit.trace(self.recurrent, (numbers(seed),), check_trace=False)
        return traced(numbers(seed + 1)[:, :2])

    def script(self, seed):
        with self.lock:
            scripted = qcore.script(self.recurrent)
        return scripted(numbers(seed))

    def prepare_and_convert(self, seed):
        model, x = copy.deepcopy(self.floats), numbers(seed)
        prepared = qcore.prepare_fx(model, get_default_qconfig_mapping(), (x,))
        prepared(x)
        return qcore.convert_fx(prepared)(x)

    def register(self, seed):
        name = f"another_{seed}_{threading.get_ident()}"

        class Another(Reference):
            pass

        Another.name, Another.fallback = name, False

        class Plugin:
            @qcore.hookimpl
            def qcore_backend(self):
                return Another()

        qcore.registry.register(Plugin(), name)
        try:
            return torch.relu(
                qcore.quantize_per_tensor(numbers(seed), 0.05, 128, qcore.quint8, backend=name)
            ).int_repr()
        finally:
            qcore.registry.unregister(name)


JOBS_BY_NAME = [name for name in vars(Jobs) if not name.startswith("_")]


@pytest.fixture
def often():
    """Threads that take turns at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


# filters of warnings belong to the process: torch's own, of another thread, may take away the one that is set while a
# module of qcore's is traced
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_threads_get_what_one_gets(often):
    random, jobs = Random(0), Jobs()
    drawn = [(random.choice(JOBS_BY_NAME), random.randrange(4)) for _ in range(JOBS)]
    drawn += [(name, 0) for name in JOBS_BY_NAME]

    def done(job):
        with torch.no_grad():
            return tree_leaves(getattr(jobs, job[0])(job[1]))

    expected = {job: done(job) for job in set(drawn)}
    filters, fast = list(warnings.filters), torch.backends.mha.get_fastpath_enabled()
    with ThreadPoolExecutor(THREADS) as pool:
        for job, found in zip(drawn, pool.map(done, drawn), strict=True):
            assert all(torch.equal(*pair) for pair in zip(found, expected[job], strict=True)), job
    assert not recording.is_learning()
    assert (list(warnings.filters), torch.backends.mha.get_fastpath_enabled()) == (filters, fast)


def test_a_change_of_the_process_is_undone_by_the_last(often):
    state, seen = [], []

    class Change:
        def __enter__(self):
            state.append(1)

        def __exit__(self, *error):
            state.pop()

    block = Shared(Change)

    def enter(number):
        for _ in range(50):
            with pytest.raises(KeyError), block():
                seen.append(len(state))
                raise KeyError

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(enter, range(THREADS)))
    assert (set(seen), state) == ({1}, [])
