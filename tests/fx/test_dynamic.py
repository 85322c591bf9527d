"""Dynamic quantization in graph mode, also trained; and functions that an untraceable forward calls, in the report."""

from __future__ import annotations

import torch
from torch import nn

import qcore
from qcore.api.qconfig import default_dynamic_qat_qconfig, default_dynamic_qconfig
from qcore.api.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx


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


class Untraceable(nn.Module):
    """Its forward asks for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        y = self.layer(x)
        return torch.sigmoid(y @ y.transpose(0, 1)) * 2.0


def test_functions_of_an_untraceable_forward_are_in_the_report():
    x = torch.randn(5, 8)
    model = nn.Sequential(Untraceable(), nn.Linear(5, 3)).eval()
    prepared = qcore.prepare(model, example_inputs=(x,), backend="reference")
    rows = {row.path: row for row in qcore.report(prepared).rows}
    assert rows["0.layer"].outcome == "quantized"
    for name, line in (("matmul", "y @ y.transpose"), ("sigmoid", "torch.sigmoid")):
        row = rows[f"0.{name}"]
        assert row.outcome == "float"
        assert "test_dynamic.py" in row.reason
        assert line in row.reason
