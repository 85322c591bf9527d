"""Changes in place: later calls read the changed value, or the module is not made a graph, with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from tests.fx.test_operators import QCONFIG
from tests.fx.test_passes import Body, calls, traced


def added(self, x):
    y = self.fc(x)
    y.add_(1.0)
    return y * y


def by_module(self, x):
    y = self.fc(x)
    z = self.act(y)
    return y + z


def by_option(self, x):
    y = self.fc(x)
    F.hardtanh(y, -0.6, 0.6, inplace=True)
    return y


def reshaped(self, x):
    y = self.fc(x)
    y.unsqueeze_(1)
    return y.squeeze(1).transpose_(0, 1)


@pytest.mark.parametrize("body", [added, by_module, by_option, reshaped])
def test_later_calls_read_what_was_changed(body):
    torch.manual_seed(0)
    model, x = Body(body, fc=nn.Linear(4, 6), act=nn.LeakyReLU(0.1, inplace=True)).eval(), torch.randn(32, 4)
    prepared = qcore.prepare_fx(model, QCONFIG, (x,))
    exact = prepared(x)
    assert torch.equal(exact, model(x))
    converted = qcore.convert_fx(prepared)
    assert not qcore.report(converted).float_rows
    assert (converted(x) - exact).square().sum() < 0.001 * exact.square().sum()


def a_view(self, x):
    y = self.fc(x)
    y.flatten().relu_()
    return self.fc(y)


def of_a_view(self, x):
    y = self.fc(x)
    z = y[:, 0]
    y.relu_()
    return z


@pytest.mark.parametrize("body", [a_view, of_a_view])
def test_views_of_what_is_changed_are_made_anew(body):
    torch.manual_seed(0)
    model, x = Body(body, fc=nn.Linear(4, 4)).eval(), torch.randn(32, 4)
    prepared = qcore.prepare_fx(model, QCONFIG, (x,), strict=body is of_a_view)
    assert torch.equal(prepared(x), model(x))
    assert all(row.outcome == "quantized" for row in qcore.report(prepared) if row.path == "fc")
    converted = qcore.convert_fx(prepared)
    assert (converted(x) - model(x)).square().sum() < 0.001 * model(x).square().sum()


def by_pieces(self, x):
    y = self.fc(x)
    torch.aminmax(x, dim=0, out=(y[0], y[1]))
    return self.fc(y)


def test_writes_that_have_no_form_without_stay_with_the_module_and_the_report_says_so():
    torch.manual_seed(0)
    model, x = Body(by_pieces, fc=nn.Linear(4, 4)).eval(), torch.randn(32, 4)
    with torch.no_grad():
        prepared = qcore.prepare_fx(model, QCONFIG, (x,))
        assert torch.equal(prepared(x), model(x))
    report = qcore.report(prepared)
    assert "writes to several tensors" in report[""].reason and report["fc"].outcome == "quantized"
    with torch.no_grad(), pytest.raises(qcore.QuantizationError, match="writes to several tensors"):
        qcore.prepare_fx(model, QCONFIG, (x,), strict=True)


def test_views_that_nothing_reads_later_are_no_hindrance():
    def body(self, x):
        y = self.fc(x)
        z = y.view(-1, 2, 2)
        return z.relu_()

    assert calls(traced(Body(body, fc=nn.Linear(4, 4))).model) == ["fc", "view", "relu_"]


def test_example_inputs_are_not_written_to():
    x = torch.randn(4, 4)
    before = x.clone()
    model = Body(lambda self, x: F.batch_norm(x.relu_(), torch.zeros(4), torch.ones(4))).eval()
    qcore.prepare_fx(model, QCONFIG, (x,))
    assert torch.equal(x, before)
