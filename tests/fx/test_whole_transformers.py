"""Whole transformers, small: every call is quantized, or the report says why not; every backend gives the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore
from qcore.api.qconfig import get_default_qconfig
from tests.backends import USABLE
from tests.fx import nets
from tests.vision_models import torchvision_models

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def vit():
    torchvision_models()
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)
    nn.init.normal_(model.heads.head.weight, std=0.3)  # torchvision starts it at zero
    return model.eval()


@torch.no_grad()
def quantized(model, inputs, backend, mapping=None):
    prepared = qcore.prepare_fx(model, mapping, inputs, backend=backend)
    prepared(*inputs)
    converted = qcore.convert_fx(prepared)
    with qcore.on_modules():
        on_modules = converted(*inputs)
    # what lies between quantized layers in floats is rounded otherwise in compiled parts
    assert (converted(*inputs) - on_modules).square().sum() < 1e-6 * on_modules.square().sum()
    return qcore.report(converted), on_modules


def test_vision_transformer():
    model = vit()
    exact = model(X)
    results = []
    for backend in USABLE:
        report, found = quantized(model, (X,), backend)
        assert {row.float_type for row in report.float_rows} <= {"LayerNorm", "add", "GELU", "softmax"}
        assert all("by default in a model with layer norms" in row.reason for row in report.float_rows)
        assert (found - exact).square().sum() < 0.01 * exact.square().sum()
        results.append(found)
    assert all(torch.equal(found, results[0]) for found in results)
    report, _ = quantized(model, (X,), "reference", get_default_qconfig("reference"))
    assert [(row.path, row.reason) for row in report.float_rows] == []


@pytest.mark.skipif(
    not hasattr(torch, "ao"), reason="importing these models of transformers needs torch's legacy stack"
)
def test_bert_is_quantized_inside_and_the_report_says_what_hinders_tracing():
    transformers = pytest.importorskip("transformers", reason="BERT is Hugging Face's")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    model, ids = transformers.BertModel(config, add_pooling_layer=False).eval(), torch.arange(10).view(2, 5)

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = model

        def forward(self, ids):
            return self.bert(input_ids=ids).last_hidden_state

    exact = Hidden()(ids)
    report, found = quantized(Hidden().eval(), (ids,), "reference")
    linears = [row for row in report if row.float_type == "Linear"]
    assert len(linears) == 12 and {row.outcome for row in linears} == {"quantized"}
    assert any(
        "cannot be traced at" in row.reason and ".py:" in row.reason
        for row in report
        if row.outcome == "passed through"
    )
    assert all(row.reason for row in report.float_rows)
    assert (found - exact).square().sum() < 0.01 * exact.square().sum()


def test_arguments_that_a_graph_was_made_for_are_kept_in_files(tmp_path):
    model, x = nets.made(nets.Shared), nets.batches(nets.Shared)[0][0]

    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, scale=None):
            return self.inner(x) if scale is None else x

    prepared = qcore.prepare_fx(Optional().eval(), get_default_qconfig("reference"), (x,), backend="reference")
    prepared(x)
    converted = qcore.convert_fx(prepared)
    qcore.save(converted, tmp_path / "model.qcore")
    for each in (converted, qcore.load(tmp_path / "model.qcore")):
        assert torch.equal(each(x, scale=None), converted(x))
        with pytest.raises(qcore.ArgumentError, match="made for scale=None"):
            each(x, scale=x)
