"""Quantized tensors in a process whose torch has lost its quantized dtypes, schemes and functions."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import torch

names = '''quint8 qint8 qint32 quint4x2 quint2x4 per_tensor_affine per_tensor_symmetric per_channel_affine
    per_channel_symmetric per_channel_affine_float_qparams quantize_per_tensor quantize_per_channel dequantize
    int_repr quantize_per_tensor_dynamic q_scale q_zero_point q_per_channel_axis
    q_per_channel_scales q_per_channel_zero_points'''
for name in names.split():
    if hasattr(torch, name):
        delattr(torch, name)

import copy
from qcore.tensor.dtypes import quint8, qint8
from qcore.tensor.functions import dequantize, quantize_per_channel, quantize_per_tensor

x = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
q = quantize_per_tensor(x, 0.01, 100, quint8)
c = quantize_per_channel(x, torch.tensor([0.01, 0.02]), torch.tensor([0, 1]), 0, qint8)
for t in (q, c):
    print(t, t.qscheme(), t.dtype)
    assert (dequantize(t) - x).abs().max() <= 0.0101
    assert copy.deepcopy(t).equal(t)
    t[0, 1] = 0.5
    assert t.reshape(2, -1).t().contiguous().dequantize().shape == (12, 2)
assert torch.nn.functional.max_pool2d(torch.cat([q, q.relu()], 1), 2).shape == (2, 6, 1, 1)
assert torch.sigmoid(q).q_scale() == 1 / 256
assert q.max().item() == q.dequantize().max().item()
print("works")
"""


def test_in_a_torch_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("works\n")
    assert "qcore.per_channel_affine qcore.qint8" in done.stdout
