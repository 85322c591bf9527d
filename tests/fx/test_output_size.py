"""A transposed convolution that is called with an output_size gives results of that size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qcore

KINDS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("more", [0, 1, None])
def test_a_transposed_convolution_has_the_size_that_it_is_asked_for(rank, by_name, more):
    size = None if more is None else [7 + more] * rank

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.act = KINDS[rank - 1](2, 3, 3, stride=2), nn.ReLU()

        def forward(self, x):
            return self.act(self.up(x, output_size=size) if by_name else self.up(x, size))

    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(2, 2, *[3] * rank)
    prepared = qcore.prepare(model, example_inputs=(x,))
    prepared(x)
    converted = qcore.convert(prepared)
    with torch.no_grad():
        right, found = model(x), converted(x)
    assert found.shape == right.shape
    assert float((found - right).abs().max()) < 0.05 * float(right.max())
    (row,) = [row for row in qcore.report(converted) if row.path == "up"]
    assert row.outcome == ("quantized" if more is None else "float")
    assert more is None or "called with more than its input" in row.reason
