"""Every quantized module, and every other entry of tensors, with tensors in every state that torch allows.

The result is that of the plain tensor, to the bit, or an error of qcore's that names the place.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

import qcore
from qcore.api import observer as observers
from qcore.api.fake_quantize import FakeQuantize
from tests.backends import USABLE
from tests.nn.every_module import SAMPLES, swapped, tensors

FLOATS = {name: sample for name, sample in SAMPLES.items() if sample.inputs()[0].dtype == torch.float32}
INDICES = {name: sample for name, sample in SAMPLES.items() if sample.inputs()[0].dtype == torch.int64}


class Plain(Tensor):
    """A subclass without code of its own."""


class Told(Tensor):
    """A subclass that sees every function."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


def negative(x):
    if not x.is_floating_point():
        return x
    viewed = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert viewed.is_neg() and torch.equal(viewed, x)
    return viewed


def spread(x):
    """The same numbers, far from each other in memory."""
    room = torch.zeros(*x.shape, 3, dtype=x.dtype)
    room[..., 1] = x
    return room[..., 1]


def shared(x):
    """Zero strides: the first slice everywhere."""
    return x[:1].expand(x.shape)


def made_in_inference(x):
    with torch.inference_mode():
        return x.clone()


SAME = {
    "negative": negative,
    "parameter": lambda x: nn.Parameter(x, x.is_floating_point()),
    "subclass": lambda x: x.as_subclass(Plain),
    "subclass with torch_function": lambda x: x.as_subclass(Told),
    "requires_grad": lambda x: x.clone().requires_grad_(x.is_floating_point()),
    "spread": spread,
    "zero strides": shared,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "made in inference mode": made_in_inference,
    "conjugated twice": lambda x: x.conj().resolve_conj(),
    "with an offset": lambda x: torch.cat([x, x])[len(x) :],
    "empty": lambda x: x[..., :0, :] if x.dim() > 2 else x[:0],
}


def masked(x):
    from torch.masked import MaskedTensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MaskedTensor(x, torch.ones_like(x, dtype=torch.bool))


def nested(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(list(x))


def compressed(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.reshape(-1, x.shape[-1]).to_sparse_csr()


REFUSED = {
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "sparse csr": compressed,
    "complex": lambda x: x.to(torch.complex64),
    "conjugate": lambda x: x.to(torch.complex64).conj(),
    "masked": masked,
    "nested": nested,
    "list": lambda x: x.tolist(),
    "number": lambda x: 3.0,
    "none": lambda x: None,
}

MODES = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


class default_dtype:
    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_):
        torch.set_default_dtype(self.before)


def result(module, inputs):
    """All tensors of the result, or the error of qcore's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [each.detach() for each in tensors(module(*inputs))]
    except qcore.QcoreError as error:
        return str(error)


def check_same(module, right, given):
    expected, found = result(module, right), result(module, given)
    if isinstance(expected, str):
        assert isinstance(found, str)
    else:
        assert not isinstance(found, str), found
        assert all(map(torch.equal, found, expected)) and all(type(each) is Tensor for each in found)


def first(state, inputs):
    return (state(inputs[0]), *inputs[1:])


BACKENDS = [name for name in USABLE if name in ("reference", "fbgemm_x86")]


def built(sample, backend):
    torch.manual_seed(0)
    module = sample.build()
    try:
        module.backend = backend
        module.binding()
    except (qcore.QcoreError, AttributeError):
        module.backend = "reference"
    return module


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*FLOATS, *INDICES])
def test_modules_take_tensors_in_any_state(name, backend):
    sample = SAMPLES[name]
    module, inputs = built(sample, backend), sample.inputs()
    for state in SAME.values():
        given = first(state, inputs)
        plain = (given[0].detach().as_subclass(Tensor).resolve_neg().clone(), *inputs[1:])
        check_same(module, plain, given)


@pytest.mark.parametrize("name", [*FLOATS, *INDICES])
def test_modules_name_themselves_to_what_no_kernel_can_read(name):
    sample = SAMPLES[name]
    module, inputs = built(sample, "fbgemm_x86"), sample.inputs()
    for kind, state in REFUSED.items():
        if name in INDICES and kind in ("masked", "nested"):
            continue  # torch makes none of such integers
        found = result(module, first(state, inputs))
        assert isinstance(found, str) and "some.path" in found, (kind, found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SAMPLES)
def test_modules_give_the_same_in_every_mode(name, mode):
    sample = SAMPLES[name]
    for backend in BACKENDS:
        module, inputs = built(sample, backend), sample.inputs()
        expected = result(module, inputs)
        for again in (module, built(sample, backend)):  # a kernel that is there, and one that is made in the mode
            with MODES[mode]():
                found = result(again, inputs)
            assert all(map(torch.equal, found, expected))
            assert all(a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("mode", ["float64", "bfloat16", "inference"])
@pytest.mark.parametrize("name", SAMPLES)
def test_modules_made_in_every_mode_are_the_same(name, mode):
    sample = SAMPLES[name]
    torch.manual_seed(0)
    layer, inputs = sample.module(), sample.inputs()
    right = swapped(layer, sample.stage)
    with MODES[mode]():
        observer = observers.MinMaxObserver(
            dtype=qcore.quint8, factory_kwargs={"device": "cpu", "dtype": torch.float32}
        )
        observer(torch.tensor([-1.7, 2.9], device="cpu", dtype=torch.float32))
        made = swapped(layer, sample.stage, observer=observer)
    for given in (right, made):
        given(*inputs)
    assert all(map(torch.equal, tensors(made(*inputs)), tensors(right(*inputs))))


@pytest.mark.parametrize("mode", MODES)
def test_models_prepared_and_called_in_every_mode_give_the_same_bits(mode):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.SiLU()
    ).eval()
    x = torch.randn(2, 3, 6, 6)

    def static(model, given):
        prepared = qcore.prepare(model, example_inputs=(given,))
        with torch.no_grad():
            prepared(given)
        return qcore.convert(prepared)

    def eager(model, given):
        wrapped = nn.Sequential(
            qcore.QuantStub(), qcore.fuse_modules(model, ["0", "1", "2"]), qcore.DeQuantStub()
        ).eval()
        prepared = qcore.prepare(wrapped)
        with torch.no_grad():
            prepared(given)
        return qcore.convert(prepared)

    def dynamic(model, given):
        return qcore.compile(qcore.quantize_dynamic(model), (given,))

    for flow in (static, eager, dynamic):
        expected = flow(net, x)(x)
        model = flow(net, x)
        model(x)
        with MODES[mode]():
            assert torch.equal(model(x).float(), expected) or mode == "autocast"
            if mode != "autocast":
                assert torch.equal(flow(net, x)(x), expected)
                made = qcore.quantize_dynamic(net)
        if mode != "autocast":
            with torch.no_grad():  # parameters copied in inference mode have no gradient
                assert torch.equal(made(x), qcore.quantize_dynamic(net)(x))


@pytest.mark.parametrize("state", SAME)
def test_other_entries_take_tensors_in_any_state(state):
    torch.manual_seed(0)
    x = torch.randn(4, 5, 6)
    given = SAME[state](x)
    plain = given.detach().as_subclass(Tensor).resolve_neg().clone()
    scales, zeros = torch.full((len(plain),), 0.1), torch.zeros(len(plain), dtype=torch.int64)
    entries = {
        "per tensor": lambda x: qcore.quantize_per_tensor(x, 0.1, 3, qcore.quint8),
        "per channel": lambda x: qcore.quantize_per_channel(x, scales, zeros, 0, qcore.qint8),
        "min, max": lambda x: _observed(observers.MinMaxObserver(), x),
        "histogram": lambda x: _observed(observers.HistogramObserver(), x),
        "per channel observer": lambda x: _observed(observers.PerChannelMinMaxObserver(), x),
        "fake quantize": lambda x: FakeQuantize()(x),
        "plan": _PLAN(),
    }
    for name, entry in entries.items():
        kept = name == "fake quantize"  # floats of the kind that came
        run = (lambda x, entry=entry: entry(x).as_subclass(Tensor)) if kept else entry
        check_same(run, (plain,), (given,))


def _observed(observer, x):
    observer(x)
    return list(observer.calculate_qparams())


class _PLAN:
    def __init__(self):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).eval()
        self.model = qcore.compile(qcore.quantize_dynamic(net), (torch.randn(2, 6),))

    def __call__(self, x):
        return self.model(x)


@pytest.mark.parametrize("state", [kind for kind in REFUSED if kind not in ("list", "number", "none")])
def test_other_entries_refuse_what_no_kernel_can_read_in_words(state):
    given = REFUSED[state](torch.randn(4, 6))
    for entry in (
        lambda x: qcore.quantize_per_tensor(x, 0.1, 3, qcore.quint8),
        lambda x: observers.MinMaxObserver()(x),
        lambda x: observers.HistogramObserver()(x),
        lambda x: FakeQuantize()(x),
        _PLAN(),
    ):
        with pytest.raises(qcore.QcoreError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry(given)


@pytest.mark.parametrize("inside", [False, True])
def test_observers_made_in_inference_mode_observe_outside_of_it(inside):
    x = torch.randn(3, 4)
    with torch.inference_mode() if inside else nullcontext():
        observer = observers.HistogramObserver()
        observer(x)
    with nullcontext() if inside else torch.inference_mode():
        observer(2 * x)
    right = observers.HistogramObserver()
    right(x)
    right(2 * x)
    assert all(map(torch.equal, observer.calculate_qparams(), right.calculate_qparams()))


def test_a_transform_of_torch_func_is_refused_in_words():
    model = qcore.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)).eval())
    with pytest.raises(qcore.ArgumentTypeError, match=r"'0'.*torch\.func"):
        torch.func.vmap(model)(torch.randn(3, 2, 6))
