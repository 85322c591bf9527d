"""Exported models in ONNX Runtime against the model itself."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import qcore
from qcore.training_operators import Range
from tests.onnx.running import onnx, run


class Residual(nn.Module):
    """Convolutions with a residual, pooling, a concatenation and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU6())
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        x = self.first(x)
        y = self.second(x) + x
        both = torch.cat([nn.functional.hardswish(y), nn.functional.max_pool2d(x, 3, 1, 1)], 1)
        return self.last(nn.functional.adaptive_avg_pool2d(both, 1).flatten(1))


def converted(model, inputs):
    prepared = qcore.prepare(model, example_inputs=inputs, backend="reference")
    prepared(*inputs)
    return qcore.convert(prepared)


def test_a_conv_net_in_graph_mode(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 12, 12)
    model = converted(Residual().eval(), (images,))
    qcore.export_onnx(model, tmp_path / "net.onnx", (images,), unsigned_weights=True)
    for batch in (images, images[:1]):  # the batch size is free
        expected, (found,) = model(batch), run(tmp_path / "net.onnx", (batch,))
        steps = (expected - found).abs() / model.last.scale
        assert steps.max() <= 2  # one for each of the last two roundings
        assert (steps > 0.5).float().mean() < 0.2
    kinds = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= kinds


def test_weights_are_integers_in_the_file(tmp_path):
    images = torch.randn(2, 3, 12, 12)
    model = converted(Residual().eval(), (images,))
    for unsigned, name in ((False, "INT8"), (True, "UINT8")):
        qcore.export_onnx(model, tmp_path / "net.onnx", (images,), unsigned_weights=unsigned)
        kinds = [each.data_type for each in onnx.load(tmp_path / "net.onnx").graph.initializer if len(each.dims) > 1]
        assert set(kinds) == {getattr(onnx.TensorProto, name)}


class Eager(nn.Module):
    """With stubs and a FloatFunctional."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = qcore.QuantStub(), qcore.DeQuantStub()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.sum = qcore.nn.quantized.FloatFunctional()

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.sum.add(self.a(x), self.b(x)))


def test_an_eager_model(tmp_path):
    torch.manual_seed(1)
    x = torch.randn(8, 6)
    prepared = qcore.prepare(Eager().eval(), backend="reference")
    prepared(x)
    model = qcore.convert(prepared)
    qcore.export_onnx(model, tmp_path / "eager.onnx", (x,), unsigned_weights=True)
    difference = (model(x) - run(tmp_path / "eager.onnx", (x,))[0]).abs()
    assert difference.max() <= 1.01 * model.sum.scale


def test_a_dynamic_model_keeps_floats_between_its_layers(tmp_path):
    torch.manual_seed(2)
    x = torch.randn(3, 7, 16)
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4)).eval()
    quantized = qcore.quantize_dynamic(model, backend="reference")
    qcore.export_onnx(quantized, tmp_path / "dynamic.onnx", (x,), unsigned_weights=True)
    (found,) = run(tmp_path / "dynamic.onnx", (x,))
    torch.testing.assert_close(found, quantized(x), atol=1e-6, rtol=0)
    assert sum(node.op_type == "MatMulInteger" for node in onnx.load(tmp_path / "dynamic.onnx").graph.node) == 2


def test_an_lstm_and_its_states(tmp_path):
    torch.manual_seed(3)
    model = nn.Sequential(nn.LSTM(8, 12, batch_first=True, bidirectional=True))
    x, states = torch.randn(2, 9, 8), (torch.randn(2, 2, 12), torch.randn(2, 2, 12))
    lstm = qcore.quantize_dynamic(model, backend="reference")[0]
    free = torch.export.Dim.DYNAMIC
    shapes = {0: free, 1: free}, ({1: free}, {1: free})
    qcore.export_onnx(lstm, tmp_path / "lstm.onnx", (x, states), shapes, unsigned_weights=True)
    for batch, steps in ((2, 9), (1, 4)):
        given = x[:batch, :steps], states[0][:, :batch].contiguous(), states[1][:, :batch].contiguous()
        y, (h, c) = lstm(given[0], given[1:])
        found = run(tmp_path / "lstm.onnx", given)
        for expected, got in zip((y, h, c), found, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert {node.domain for node in onnx.load(tmp_path / "lstm.onnx").graph.node} <= {"", "pkg.onnxscript.torch_lib"}


def test_what_has_no_translation_is_named(tmp_path):
    class Unknown(qcore.nn.quantized.Linear):
        """A module of somebody else's, with an operator that export knows nothing of."""

        def operator(self):
            return Range()

    stub = qcore.nn.quantized.Quantize(0.1, 0, qcore.quint8)
    model = nn.Sequential(OrderedDict(stub=stub, table=Unknown(2, 2)))
    with pytest.raises(qcore.UnsupportedError, match=r"module 'table': no backend can run range"):
        qcore.export_onnx(model, tmp_path / "novel.onnx", (torch.zeros(1, 2),))
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_told(tmp_path):
    with pytest.raises(qcore.ArgumentError, match="has no quantized module; convert it first"):
        qcore.export_onnx(nn.Linear(2, 2), tmp_path / "x.onnx", (torch.zeros(1, 2),))
    with pytest.raises(qcore.ArgumentError, match="must be a tuple"):
        qcore.export_onnx(nn.Linear(2, 2), tmp_path / "x.onnx", torch.zeros(1, 2))


def test_what_torch_has_no_translation_for(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.RReLU(0.1, 0.5), nn.Linear(4, 4)).eval(), torch.randn(3, 4)
    dynamic = qcore.quantize_dynamic(model)
    qcore.export_onnx(dynamic, tmp_path / "rrelu.onnx", (x,))
    (found,) = run(tmp_path / "rrelu.onnx", (x,))
    torch.testing.assert_close(found, dynamic(x), rtol=1e-5, atol=1e-5)


def test_a_layer_with_a_name_of_graph_modules_is_refused_in_words(tmp_path):
    model = qcore.quantize_dynamic(nn.Sequential(OrderedDict(graph=nn.Linear(4, 4))).eval())
    with pytest.raises(qcore.UnsupportedError, match=r"module 'graph'.*rename it"):
        qcore.export_onnx(model, tmp_path / "named.onnx", (torch.randn(2, 4),))
