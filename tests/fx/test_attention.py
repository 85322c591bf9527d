"""Products of activations, and attention made of them, in graph mode."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.qconfig import get_default_qconfig
from qcore.api.qconfig_mapping import get_default_qconfig_mapping
from qcore.nn.quantized import FXFloatFunctional
from tests.backends import USABLE


class Products(nn.Module):
    """Each way to write a product of matrices."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call
        self.first, self.second = nn.Linear(8, 12), nn.Linear(8, 12)

    def forward(self, x):
        return self.call(self.first(x), self.second(x).transpose(1, 2))


WAYS = {
    "matmul": torch.matmul,
    "bmm": torch.bmm,
    "operator": lambda a, b: a @ b,
    "method": lambda a, b: a.matmul(b),
    "method bmm": lambda a, b: a.bmm(b),
    "keyword": lambda a, b: torch.bmm(a, mat2=b),
    "named": lambda a, b: torch.matmul(input=a, other=b),
    "functional module": lambda a, b: FXFloatFunctional().matmul(a, b),
}


def quantized(model, x, **options):
    """prepare, calibrate on x, convert."""
    prepared = qcore.prepare(model.eval(), example_inputs=(x,), **options)
    prepared(x)
    return prepared, qcore.convert(prepared)


@pytest.mark.parametrize("way", WAYS)
def test_products_of_activations_are_quantized(way):
    torch.manual_seed(0)
    model, x = Products(WAYS[way]), torch.randn(3, 5, 8)
    prepared, converted = quantized(model, x, backend="reference")
    assert not [row for row in qcore.report(converted).rows if row.outcome == "float"]
    assert "matmul" in {row.operator for row in qcore.report(converted).rows}
    expected = model(x)
    assert (converted(x) - expected).abs().max() < 0.05 * expected.abs().max()
    reference = qcore.convert(prepared, is_reference=True)(x)
    step = float(converted(x).unique().diff().min())
    assert (converted(x) - reference).abs().max() < 1.01 * step


def test_a_product_with_a_number_is_left_float_with_a_reason():
    class Outed(nn.Module):
        def forward(self, x):
            return torch.matmul(x, x, out=torch.empty_like(x))

    with pytest.raises(qcore.QuantizationError, match="out"):
        qcore.prepare(Outed().eval(), example_inputs=(torch.randn(4, 4),), backend="reference", strict=True)


class Attention(nn.Module):
    """Self-attention by torch's function, with the options given."""

    def __init__(self, mask=None, **options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("mask", mask)
        self.project, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        heads = self.project(x).reshape(x.shape[0], x.shape[1], 3, 2, 8).permute(2, 0, 3, 1, 4)
        q, k, v = heads[0], heads[1], heads[2]
        options = dict(self.options) if self.mask is None else {**self.options, "attn_mask": self.mask}
        attended = F.scaled_dot_product_attention(q, k, v, **options)
        return self.out(attended.transpose(1, 2).reshape(x.shape[0], x.shape[1], 16))


MASKS = {
    "none": None,
    "which": torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.3,
    "numbers": torch.randn(6, 6, generator=torch.Generator().manual_seed(2)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{}, {"scale": 0.2}])
def test_attention_is_decomposed(mask, options):
    _holds(Attention(MASKS[mask], **options))


def test_causal_attention_is_decomposed():
    _holds(Attention(is_causal=True))


def _holds(model):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 16)
    _, converted = quantized(model, x, backend="reference")
    kinds = [row.operator for row in qcore.report(converted).rows]
    assert kinds.count("matmul") == 2
    expected = model(x)
    error = (converted(x) - expected).square().mean().sqrt() / expected.std()
    assert error < 0.04


@pytest.mark.parametrize(
    ("options", "reason"), [({"dropout_p": 0.5}, "dropout"), ({"enable_gqa": True}, "repeat the heads")]
)
def test_attention_that_cannot_be_decomposed_says_why(options, reason):
    prepared = qcore.prepare(Attention(**options).eval(), example_inputs=(torch.randn(3, 6, 16),), backend="reference")
    (row,) = [row for row in qcore.report(prepared).rows if "attention" in row.float_type]
    assert row.outcome == "float"
    assert reason in row.reason


def test_every_backend_gives_the_same_attention():
    torch.manual_seed(0)
    x, model = torch.randn(3, 6, 16), Attention()
    _, reference = quantized(model, x, backend="reference", qconfig_mapping=get_default_qconfig_mapping("reference"))
    for name in USABLE:
        _, native = quantized(model, x, backend=name, qconfig_mapping=get_default_qconfig_mapping(name))
        assert torch.equal(native(x), reference(x))


LAYER = {"d_model": 8, "nhead": 2, "dim_feedforward": 16}
SEQUENCES = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3))


def transformer(name, batch_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(**LAYER, batch_first=batch_first)
    made = {
        "layer": lambda: layer,
        "stack": lambda: nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False),
        "inner stack": lambda: nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)),
        "whole": lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=batch_first),
    }
    return made[name]().eval()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["layer", "stack", "inner stack", "whole"])
def test_torchs_transformers_are_quantized_whole(name, batch_first):
    model = transformer(name, batch_first)
    inputs = (SEQUENCES, SEQUENCES) if name == "whole" else (SEQUENCES,)
    prepared = qcore.prepare_fx(model, get_default_qconfig("reference"), inputs, backend="reference")
    prepared(*inputs)
    converted = qcore.convert_fx(prepared)
    assert qcore.report(converted).float_rows == ()
    exact = model(*inputs)
    assert (converted(*inputs) - exact).square().sum() < 0.005 * exact.square().sum()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["layer", "inner stack", "whole"])
def test_masks_leave_the_layers_of_torchs_transformers_in_parts(name, batch_first):
    length = SEQUENCES.shape[1 if batch_first else 0]
    causal = torch.ones(length, length, dtype=torch.bool).triu(1)
    padding = torch.zeros(SEQUENCES.shape[0 if batch_first else 1], length, dtype=torch.bool)
    padding[0, -1] = True
    model = transformer(name, batch_first)
    inputs = {
        "layer": (SEQUENCES, causal, padding),
        "inner stack": (SEQUENCES,),
        "whole": (SEQUENCES, SEQUENCES, None, causal),
    }[name]
    prepared = qcore.prepare_fx(model, get_default_qconfig("reference"), inputs, backend="reference")
    prepared(*inputs)
    converted = qcore.convert_fx(prepared)
    linears = [row for row in qcore.report(converted) if "Linear" in row.float_type]
    assert linears and {row.outcome for row in linears} == {"quantized"}
    exact = model(*inputs)
    for each in (converted, copy.deepcopy(converted)):
        assert (each(*inputs) - exact).square().sum() < 0.005 * exact.square().sum()
