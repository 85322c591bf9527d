"""matmul beside torch's quantized one, which multiplies floats: equal but next to a tie."""

from __future__ import annotations

import pytest
import torch

from qcore.operators import MatMul
from qcore.registry import registry
from qcore.tensor.dtypes import quint8
from qcore.tensor.qparams import per_tensor
from tests import oracle

pytestmark = pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing())


def test_equals_torch_but_next_to_a_tie():
    generator = torch.Generator().manual_seed(0)
    kernel = registry.get("reference").build(MatMul())
    differ = compared = 0
    for seed in range(40):
        k = (3, 16, 64, 200)[seed % 4]
        a = torch.randint(0, 256, (2, 3, 17, k), generator=generator, dtype=torch.uint8)
        b = torch.randint(0, 256, (2, 3, k, 19), generator=generator, dtype=torch.uint8)
        qa, qb = per_tensor(0.013, 7 * seed % 256, quint8), per_tensor(0.021, 250 - 5 * seed, quint8)
        exact = torch.matmul(a.double() - qa.zero_point, b.double() - qb.zero_point) * (qa.scale * qb.scale)
        out = per_tensor(float(exact.max() - exact.min()) / 240, 100, quint8)
        ours = kernel(a, qa, b, qb, out)
        theirs = oracle.run(
            oracle.quantized.matmul, oracle.to_torch(a, qa), oracle.to_torch(b, qb), out.scale, out.zero_point
        )
        wrong = ours != theirs
        assert (ours.int() - theirs.int()).abs().max() <= 1
        part = (exact / out.scale) % 1
        assert ((part[wrong] - 0.5).abs() < 1e-3).all()
        differ, compared = differ + int(wrong.sum()), compared + ours.numel()
    print(f"{differ} of {compared:,} differ")
    assert differ <= compared / 5000
