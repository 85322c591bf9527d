"""model_size against bytes counted by hand."""

from __future__ import annotations

import torch
from torch import nn

import qcore
from qcore.api import qconfig as qconfigs


def test_float_models_count_each_tensor_once():
    tied = nn.Linear(8, 8, bias=False)
    assert qcore.model_size(nn.Sequential(tied, nn.BatchNorm1d(8), tied)) == 8 * 8 * 4 + 4 * 8 * 4 + 8


def test_quantized_weights_scales_and_biases_count():
    model = nn.Sequential(nn.Linear(16, 8))
    for preset, scales in ((qconfigs.default_dynamic_qconfig, 0), (qconfigs.per_channel_dynamic_qconfig, 8 * (8 + 8))):
        quantized = qcore.quantize_dynamic(model, {nn.Linear: preset}, backend="reference")
        quantized(torch.randn(1, 16))
        assert qcore.model_size(quantized) == 8 * 16 + 8 * 4 + scales
    half = qcore.quantize_dynamic(model, dtype=torch.float16, backend="reference")
    assert qcore.model_size(half) == 8 * 16 * 2 + 8 * 4
