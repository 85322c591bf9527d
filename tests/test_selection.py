"""What `backend` and `fallback` may say, and who runs what in a model with several backends."""

from __future__ import annotations

import sys
import time

import pytest
import torch
from torch import nn

import qcore
from qcore.operators import Conv, Dequantize, Linear, LinearDynamic, Operator, Quantize
from qcore.registry import Registry
from qcore.selection import Selection

pytest.importorskip("qcore_reference", reason="the backends stand on the reference's kernels")

WEIGHTS = (qcore.WeightSpec(per_channel=True), qcore.WeightSpec())


class Partial(qcore.Backend):
    """Some operators of the reference."""

    version = "1.0"

    def __init__(self, name: str, *ops: qcore.OpSpec) -> None:
        self.name = name  # type: ignore[misc]
        self._ops = ops
        self.built: list[str] = []

    def probe(self) -> qcore.Availability:
        return qcore.Availability(True)

    def capability(self) -> qcore.Capability:
        return qcore.Capability(self._ops, qcore.standard_patterns(self._ops))

    def build(self, operator: Operator) -> qcore.Kernel:
        self.built.append(operator.name)
        return qcore.registry.get("reference").build(operator)

    @qcore.hookimpl
    def qcore_backend(self) -> qcore.Backend:
        return self


@pytest.fixture
def two():
    """One with linear layers, one with convolutions, both with what stands around them."""
    ends = (qcore.OpSpec(Quantize), qcore.OpSpec(Dequantize))
    linears = (
        qcore.OpSpec(Linear, weights=WEIGHTS, fused=("relu",)),
        qcore.OpSpec(LinearDynamic, weights=WEIGHTS, options=("per_row",)),
    )
    first = Partial("first", *linears, *ends)
    second = Partial("second", qcore.OpSpec(Conv, weights=WEIGHTS, fused=("relu",)), *linears, *ends)
    for each in (first, second):
        qcore.registry.register(each, each.name)
    yield first, second
    for each in (first, second):
        qcore.registry.unregister(each.name)


def net(stubs: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5)]
    ends = [qcore.QuantStub(), qcore.DeQuantStub()] if stubs else [nn.Identity(), nn.Identity()]
    return nn.Sequential(ends[0], *layers, ends[1]).eval()


IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def quantized(mode: str, **how: object) -> nn.Module:
    if mode == "dynamic":
        torch.manual_seed(0)
        return qcore.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(108, 5)).eval(), **how)
    graph = {"example_inputs": (IMAGES,)} if mode == "graph" else {}
    prepared = qcore.prepare(net(stubs=mode == "eager"), **graph, **how)
    prepared(IMAGES)
    return qcore.convert(prepared)


@pytest.mark.parametrize("text", ["a", "a, b", "a; fallback=error", "a, b; fallback=c"])
def test_a_selection_has_one_string(text):
    assert str(Selection.of(text)) == text
    assert Selection.of(Selection.of(text).names, Selection.of(text).fallback) == Selection.of(text)


@pytest.mark.parametrize(
    ("backend", "fallback", "message"),
    [
        ([], None, "names no backend"),
        ("", None, "names no backend"),
        ("a,,b", None, "names no backend"),
        (["a", "a"], None, "one backend twice"),
        (["auto", "a"], None, "'auto' stands alone"),
        ("a; b", None, "after the names comes"),
        ("a; fallback=b", "c", "two fallbacks"),
        (3, None, "give the name of a backend"),
        (["a", 3], None, "give the name of a backend"),
        ("a", 3, "fallback=3: give the name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(backend, fallback, message):
    with pytest.raises((qcore.ArgumentError, qcore.ArgumentTypeError), match=message):
        Selection.of(backend, fallback)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_each_layer_runs_on_the_first_that_declares_it(two, mode):
    report = quantized(mode, backend=["first", "second"]).qcore_report
    assert report.backend == "first, second"
    rows = {row.float_type: row for row in report.quantized_rows}
    assert (rows["Conv2d"].backend, rows["Linear"].backend) == ("second", "first")
    assert "first: conv is not among its operators" in rows["Conv2d"].reason and not rows["Linear"].reason
    assert not report.fallback_rows


@pytest.mark.parametrize("mode", ["eager", "graph", "dynamic"])
@pytest.mark.parametrize("order", [["first", "second"], ["second", "first"]])
def test_several_backends_give_the_bits_of_one(two, mode, order):
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    model = quantized(mode, backend=order)
    assert torch.equal(model(x), quantized(mode, backend="reference")(x))
    built = {each.name: set(each.built) for each in two}
    if mode == "dynamic":
        assert built[order[0]] == {"linear_dynamic"} and not built[order[1]]
    else:
        assert "conv" in built["second"] and "linear" in built[order[0]] and "linear" not in built[order[1]]


def test_the_selection_stays_with_a_saved_model(two):
    model = quantized("eager", backend=["first", "second"], fallback="reference")
    assert model.qcore_backend == "first, second; fallback=reference"
    fresh = quantized("eager", backend="reference")
    for part in fresh.modules():
        if hasattr(part, "_backend"):
            part._backend = None
    fresh.load_state_dict(model.state_dict())
    assert fresh[1].backend == "first, second; fallback=reference"
    assert torch.equal(fresh(IMAGES), model(IMAGES))


@pytest.mark.parametrize("mode", ["eager", "graph", "dynamic"])
def test_without_fallback_what_is_not_declared_is_an_error(two, mode):
    first, _ = two
    first._ops = first._ops[2:] if mode == "dynamic" else first._ops
    what = "linear_dynamic" if mode == "dynamic" else "conv"
    with pytest.raises(qcore.QuantizationError, match=rf"first: {what} is not among its operators.*fallback='error'"):
        quantized(mode, backend="first", fallback="error")
    quantized(mode, backend="first")


def test_a_named_fallback_is_the_only_one_and_is_told(two):
    report = quantized("eager", backend="first", fallback="second").qcore_report
    assert [row.backend for row in report.fallback_rows] == ["second"]
    with pytest.raises(qcore.BackendError, match="'nobody' is not installed"):
        quantized("eager", backend="first", fallback="nobody")
    two[1]._ops = two[1]._ops[1:]
    with pytest.raises(qcore.QuantizationError, match="no backend can run conv"):
        quantized("eager", backend="first", fallback="second")


def test_auto_takes_a_fallback_and_a_list_from_the_environment(two, monkeypatch):
    monkeypatch.setenv("QCORE_BACKEND", "first, second")
    choice = qcore.registry.choose("auto", "error")
    assert choice.name == "first, second; fallback=error" and choice.backend.name == "first"


class Extra:
    """An extension of "first"."""

    def __init__(self, extension: object) -> None:
        self._extension = extension

    @qcore.hookimpl
    def qcore_extension(self):
        return self._extension


def extension() -> qcore.Extension:
    pattern = qcore.Pattern((nn.Linear, nn.ReLU), Linear, ("relu",))
    return qcore.Extension("first", (pattern,), {"coarse": qcore.QConfig(*qcore.api.qconfig.default_qconfig)})


def test_an_extension_adds_patterns_and_presets_to_another_plugins_backend(two):
    first, _ = two
    first.capability = lambda: qcore.Capability(first._ops)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    x = torch.randn(3, 4)

    def fused() -> bool:
        found = qcore.prepare_fx(model, None, (x,), backend="first", fallback="error").qcore_report
        return any("relu" in row.operator and "linear" in row.operator for row in found)

    with pytest.raises(qcore.QuantizationError, match="no backend can run"):
        fused()
    with pytest.raises(qcore.ArgumentError, match="no extension of it is installed"):
        qcore.get_qconfig_preset("coarse", "first")
    qcore.registry.register(Extra(extension()), "extra")
    try:
        assert fused()
        assert qcore.get_qconfig_preset("coarse", "first") == qcore.api.qconfig.default_qconfig
        with pytest.raises(qcore.ArgumentError, match="no QConfig preset 'fine'; there are 'coarse'"):
            qcore.get_qconfig_preset("fine", "first")
        with pytest.raises(qcore.BackendError, match="'extra' is no backend, but an extension of 'first'"):
            qcore.registry.get("extra")
        assert qcore.registry.status("extra").usable is False
        assert "extra" not in qcore.registry.choose("auto").reason
    finally:
        qcore.registry.unregister("extra")


def test_a_hook_that_returns_no_extension_is_told():
    qcore.registry.register(Extra("me"), "extra")
    try:
        reason = qcore.registry.status("extra").availability.reason
        assert "qcore_extension() returned 'me', not a qcore.Extension" in reason
    finally:
        qcore.registry.unregister("extra")


def test_a_probe_that_hangs_is_listed_and_left_behind(monkeypatch):
    monkeypatch.setattr(sys.modules[Registry.__module__], "PROBE_SECONDS", 0.2)
    hanging = Partial("hanging")
    hanging.probe = lambda: time.sleep(30)
    begun = time.monotonic()
    qcore.registry.register(hanging, "hanging")
    try:
        assert time.monotonic() - begun < 10
        status = qcore.registry.status("hanging")
        assert not status.usable and "did not end within 0.2 s" in status.availability.reason
        assert qcore.registry.choose("auto").backend.name != "hanging"
        with pytest.raises(qcore.BackendError, match="did not end within"):
            qcore.registry.get("hanging")
    finally:
        qcore.registry.unregister("hanging")
