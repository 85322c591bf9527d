"""Attention beside torch's, and both beside attention in float64; its exp beside the exact function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from qcore_reference.attention import exp

from qcore.operators import Attention
from qcore.registry import registry

ERRORS = {0.05: 5e-7, None: 2e-6, 0.4: 5e-6}
"""Of results of normally distributed operands, width 32, up to 150 keys, by scale."""
ERROR = ERRORS[None]


def drawn(seed, queries=70, keys=150, width=32):
    generator = torch.Generator().manual_seed(seed)
    sizes = (queries, width), (keys, width), (keys, width)
    return [torch.randn(2, 3, *size, generator=generator) for size in sizes]


def attention(*args, scale=None, causal=False):
    return registry.get("reference").build(Attention(scale, causal))(*args)


def masks(queries, keys):
    generator = torch.Generator().manual_seed(1)
    padding = torch.zeros(2, 1, 1, keys)
    padding[0, ..., -20:], padding[1, ..., -3:] = -torch.inf, torch.finfo(torch.float32).min
    some = torch.randn(queries, keys, generator=generator)
    return [None, padding, some, some.masked_fill(some > 0.5, -torch.inf).expand(2, 3, queries, keys)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", ERRORS)
def test_is_near_to_float64_and_torch(seed, scale):
    q, k, v = drawn(seed)
    for mask in masks(70, 150):
        ours = attention(q, k, v, mask, scale=scale)
        wide = None if mask is None else mask.double()
        exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), wide, scale=scale)
        torchs = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        assert (ours.double() - exact).abs().max() <= ERRORS[scale]
        assert (ours - torchs).abs().max() <= 2 * ERRORS[scale]


@pytest.mark.parametrize("sizes", [(70, 70), (40, 90), (90, 40), (1, 5)])
def test_causal_as_torch(sizes):
    q, k, v = drawn(5, *sizes)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (attention(q, k, v, None, causal=True) - theirs).abs().max() <= 2 * ERROR


def test_queries_without_keys_as_torch():
    q, k, v = drawn(6, 5, 9)
    mask = torch.zeros(5, 9)
    mask[2] = -torch.inf
    ours, theirs = attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask)
    assert not ours[:, :, 2].any() and not theirs[:, :, 2].any()
    assert ours[:, :, [0, 1, 3, 4]].all()
    none = k[:, :, :0]
    assert torch.equal(attention(q, none, none, None), F.scaled_dot_product_attention(q, none, none))


def test_keys_ahead_of_a_causal_query_take_no_part():
    q, k, v = drawn(7, 6, 6)
    wrong_k, wrong_v = k.clone(), v.clone()
    wrong_k[:, :, 4:], wrong_v[:, :, 4:] = torch.nan, torch.inf
    ours = attention(q, wrong_k, wrong_v, None, causal=True)
    assert torch.equal(ours[:, :, :4], attention(q, k, v, None, causal=True)[:, :, :4])
    assert ours[:, :, 4:].isnan().all()


def test_exp_is_within_units_of_the_last_place():
    y = -torch.cat([torch.linspace(0, 87, 400_001), torch.logspace(-12, 0, 100_001), torch.tensor([0.0])])
    exact = np.exp(y.numpy().astype(np.float64))
    units = np.abs(exp(y).numpy() - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)
    print(f"{units.max():.3f} units in the last place")
    assert units.max() <= 1.1
    assert exp(torch.tensor([-torch.inf, -1e30, -89.0, -88.0])).tolist() == [0.0] * 4
    assert exp(torch.tensor([-0.0, torch.nan])).isnan().tolist() == [False, True]
