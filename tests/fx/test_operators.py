"""Each operator in all the ways to write it: quantized, as one integer graph, with the bits of its reference form."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import qcore
from qcore.api.observer import MinMaxObserver, default_per_channel_weight_observer
from qcore.api.qconfig import float_qparams_weight_only_qconfig
from tests.fx.forms import FORMS

QCONFIG = qcore.QConfig(MinMaxObserver, default_per_channel_weight_observer)


class Net(nn.Module):
    """One form of an operator, after an activation where it takes numbers."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        first, form = FORMS[name].forms[0], FORMS[name].forms[number]
        made = first() if makes_module(first) else nn.Module()
        for parameter in made.parameters():
            nn.init.normal_(parameter, 0.5 if "norm" in name else 0.0, 0.3)
        self.before = nn.Hardswish() if FORMS[name].shape else nn.Identity()
        self.parameters_of_call = [] if makes_module(form) else [each for each, _ in made.named_parameters()]
        self.call = form() if makes_module(form) else form
        if makes_module(form):
            self.call.load_state_dict(made.state_dict())
        for each in self.parameters_of_call:
            setattr(self, each, getattr(made, each))

    def forward(self, x):
        return self.call(self.before(x), *(getattr(self, each) for each in self.parameters_of_call))


def makes_module(form) -> bool:
    return isinstance(form, type | partial)


def example(name):
    generator = torch.Generator().manual_seed(1)
    shape = FORMS[name].shape
    return torch.randn(shape, generator=generator) if shape else torch.randint(0, 10, (3, 4), generator=generator)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_quantized_and_equals_its_reference(name):
    mapping = qcore.QConfigMapping().set_global(QCONFIG if FORMS[name].shape else float_qparams_weight_only_qconfig)
    x, results = example(name), []
    for number in range(len(FORMS[name].forms)):
        model = Net(name, number).eval()
        prepared = qcore.prepare_fx(model, mapping, (x,))
        with torch.no_grad():
            prepared(x.clone())
            converted, reference = qcore.convert_fx(prepared), qcore.convert_to_reference_fx(prepared)
            found, exact = converted(x.clone()), model(x.clone())
            on_reference = qcore.lower_fx(reference, "reference")(x.clone())
            in_float = reference(x.clone())
        assert [(number, row.path, row.reason) for row in qcore.report(converted).float_rows] == []
        assert converted.code.count("dequantize()") == bool(FORMS[name].shape)
        assert torch.equal(found, on_reference)
        assert found.shape == exact.shape
        assert (found - exact).square().sum() < 0.001 * exact.square().sum()
        # a few operations, each within a step of the integers
        assert (in_float - found).square().sum() < 0.002 * exact.square().sum()
        results.append(found)
    assert all(torch.equal(found, results[0]) for found in results)
