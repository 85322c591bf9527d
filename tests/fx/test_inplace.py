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


def kept_in_a_list(self, x, held):
    held.append(self.fc(x))
    return x


def taken_from_a_list(self, x, held):
    return self.fc(x) + held.pop()


def turned(self, x, held):
    held.reverse()
    return self.fc(x) + held[0]


def kept_in_a_dict(self, x, held):
    held["new"] = self.fc(x)
    return x


def replaced_in_a_dict(self, x, held):
    held["a"] = held["a"] + self.fc(x)
    return x


def counted_in_a_dict(self, x, held):
    held["count"] = held.get("count", 0) + 1
    return self.fc(x)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "body", [kept_in_a_list, taken_from_a_list, turned, kept_in_a_dict, replaced_in_a_dict, counted_in_a_dict]
)
def test_what_is_written_to_a_container_that_is_given_is_there_afterwards(body, inside):
    torch.manual_seed(0)
    x = torch.randn(8, 4)

    def given():
        return {"a": x + 1, "b": x * 2} if "dict" in body.__name__ else [x + 1, x * 2]

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x, held):
            return body(self, x, held)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Part()

        def forward(self, x, held):
            if x.sum() > 1e9:
                return x
            return self.part(x, held) + len(held)

    model = (Around() if inside else Part()).eval()
    prepared = qcore.prepare_fx(model, QCONFIG, (x, given()))
    prepared(x, given())
    converted = qcore.convert_fx(prepared)
    right, found = given(), given()
    exact, result = model(x, right), converted(x, found)
    assert type(found) is type(right) and len(found) == len(right)
    if isinstance(right, dict):
        assert list(found) == list(right)
        right, found = list(right.values()), list(found.values())
    for a, b in zip([exact, *right], [result, *found], strict=True):
        assert a == b if isinstance(a, int) else (a - b).square().sum() < 0.001 * a.square().sum()
