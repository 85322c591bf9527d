"""Dynamic quantization in graph mode, also trained; and functions that an untraceable forward calls, in the report."""

from __future__ import annotations

import torch
from torch import nn

import qcore
from qcore.api.qconfig import default_dynamic_qat_qconfig, default_dynamic_qconfig
from qcore.api.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from qcore.nn.quantized import FloatFunctional


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def test_dynamic_quantization_equals_that_of_modules():
    x, model = torch.randn(5, 8), net().eval()
    converted = convert_fx(prepare_fx(model, default_dynamic_qconfig, (x,), backend="reference"))
    assert [row.operator for row in qcore.report(converted).rows] == ["linear_dynamic + relu", "linear_dynamic"]
    modules = qcore.quantize_dynamic(model, {nn.Linear: default_dynamic_qconfig}, backend="reference")
    assert torch.equal(converted(x), modules(x))


def test_training_for_dynamic_quantization_sees_what_converting_gives():
    x = torch.randn(32, 8)
    prepared = prepare_qat_fx(net().train(), default_dynamic_qat_qconfig, (x,), backend="reference")
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.05)
    before = [parameter.detach().clone() for parameter in prepared.parameters()]
    for _ in range(5):
        optimizer.zero_grad()
        prepared(x).square().mean().backward()
        optimizer.step()
    assert all((old != new).any() for old, new in zip(before, prepared.parameters(), strict=True))
    prepared.eval()
    with torch.no_grad():
        trained = prepared(x)
    converted = convert_fx(prepared)
    assert [row.operator for row in qcore.report(converted).rows] == ["linear_dynamic + relu", "linear_dynamic"]
    assert "activation_post_process" not in converted.code
    for path in ("0", "2"):
        layer = prepared.get_submodule(path)
        assert torch.equal(converted.get_submodule(path).weight().dequantize(), layer.weight_fake_quant(layer.weight))
    # activations train on 8 bits and run, as torch's dynamic presets do, on 7: the output of the first layer is off by
    # at most half a step of either, and so is the input of each
    assert (converted(x) - trained).abs().max() < 4 / 127 * trained.abs().max()


class Scale(nn.Module):
    """A module of the user's, without others in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8))

    def forward(self, x):
        return nn.functional.linear(x, self.weight)


class Untraceable(nn.Module):
    """Its forward asks for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale, self.act, self.drop = nn.Linear(8, 8), Scale(), nn.GELU(), nn.Dropout()
        self.never, self.functional = nn.Softmax(-1), FloatFunctional()

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        y = self.drop(self.act(self.scale(self.layer(x))))
        z = torch.cat([y, y.exp(), torch.zeros_like(y)], 1)[:, :8].contiguous()
        return self.functional.mul(torch.sigmoid(z @ y.transpose(0, 1)), y[:, :1]) if y.shape[0] else self.never(y)


def test_functions_of_an_untraceable_forward_are_in_the_report():
    x = torch.rand(5, 8)
    model = nn.Sequential(Untraceable(), nn.Linear(5, 3)).eval()
    prepared = qcore.prepare(model, example_inputs=(x,), backend="reference")
    rows = {row.path: row for row in qcore.report(prepared).rows}
    assert rows["0.layer"].outcome == "quantized"
    assert rows["0"].outcome == "passed through" and "if x.sum() > 0:" in rows["0"].reason
    assert rows["0.scale.linear"].outcome == "quantized"
    assert rows["0.drop"].outcome == "passed through"
    assert (rows["0.act"].outcome, rows["0.act"].reason.partition(",")[0]) == ("float", "it has no weights")
    assert rows["0.never"].reason == "not called on the example inputs"
    calls = {
        "matmul": "z @ y.transpose",
        "sigmoid": "torch.sigmoid",
        "cat": "torch.cat",
        "exp": "y.exp()",
        "mul": "self.functional.mul",
    }
    for name, line in {**calls, "neg": "x = -x", "sum": "if x.sum() > 0"}.items():
        row = rows[f"0.{name}"]
        assert row.outcome == "float"
        assert "test_dynamic.py" in row.reason
        assert line in row.reason
    assert "exp has no quantized form" in rows["0.exp"].reason
    assert {path.removeprefix("0.") for path in rows if path.startswith("0.")} == {
        "layer", "scale.linear", "act", "drop", "never", "neg", "sum", *calls
    }  # fmt: skip


def test_a_module_of_functions_alone_is_in_the_report_with_its_calls():
    class Function(nn.Module):
        def forward(self, x):
            return torch.tanh(x) if x.sum() < 1e9 else x

    prepared = qcore.prepare(nn.Sequential(Function()).eval(), example_inputs=(torch.rand(2, 8),), backend="reference")
    rows = {row.path: row for row in qcore.report(prepared).rows}
    assert rows["0"].outcome == rows["0.tanh"].outcome == "float" and "x.sum() < 1e9" in rows["0"].reason
    assert "torch.tanh(x)" in rows["0.tanh"].reason
