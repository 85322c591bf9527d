"""Draws of the same quantized tensor twice: ours, and torch's original as the oracle."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from qcore.tensor.dtypes import QDType, qint8, qint32, quint8
from qcore.tensor.qparams import QParams, per_channel, per_tensor
from qcore.tensor.qtensor import QTensor
from tests import oracle

stable = settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


class Pair(NamedTuple):
    """One quantized tensor as ours and as torch's."""

    ours: QTensor
    theirs: Tensor


def pair(raw: Tensor, qparams: QParams) -> Pair:
    """Both kinds over copies of the same integers."""
    return Pair(QTensor(raw.clone(), qparams), oracle.to_torch(raw.clone(), qparams))


def integers(shape: tuple[int, ...], dtype: QDType, seed: int) -> Tensor:
    """Integers of the whole range of 8 bits, or about as many around zero for qint32."""
    low, high = (dtype.qmin, dtype.qmax) if dtype != qint32 else (-1000, 1000)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator, dtype=torch.int64).to(dtype.storage)


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
scales = st.floats(1e-3, 10.0)
dtypes = st.sampled_from((quint8, qint8, qint32))


@st.composite
def per_tensor_pairs(draw: Any, shape: Any = shapes, dtypes: Any = dtypes) -> Pair:
    """A pair quantized per tensor."""
    dtype = draw(dtypes)
    low, high = (dtype.qmin, dtype.qmax) if dtype != qint32 else (-100, 100)
    qparams = per_tensor(draw(scales), draw(st.integers(low, high)), dtype)
    return pair(integers(draw(shape), dtype, draw(st.integers(0, 2**16))), qparams)


@st.composite
def per_channel_pairs(draw: Any, shape: Any = shapes) -> Pair:
    """A pair quantized per channel on any axis."""
    dtype = draw(st.sampled_from((quint8, qint8)))
    size = draw(shape)
    axis = draw(st.integers(0, len(size) - 1))
    zero_points = st.integers(dtype.qmin, dtype.qmax)
    channels = size[axis]
    qparams = per_channel(
        torch.tensor(draw(st.lists(scales, min_size=channels, max_size=channels)), dtype=torch.float64),
        torch.tensor(draw(st.lists(zero_points, min_size=channels, max_size=channels))),
        axis,
        dtype,
    )
    return pair(integers(size, dtype, draw(st.integers(0, 2**16))), qparams)


def assert_same(ours: Any, theirs: Any) -> None:
    """Same kind, shape, strides, parameters and numbers."""
    if isinstance(theirs, tuple | list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
        return
    if not isinstance(theirs, Tensor):
        assert ours == theirs
        return
    assert ours.shape == theirs.shape
    assert ours.stride() == theirs.stride()
    assert ours.dtype == theirs.dtype
    assert isinstance(ours, QTensor) == theirs.is_quantized
    if not theirs.is_quantized:
        assert torch.equal(ours, theirs)
        return
    assert ours.qscheme() == theirs.qscheme()
    assert torch.equal(ours.int_repr(), theirs.int_repr())
    if ours.qparams.axis is None:
        assert (ours.q_scale(), ours.q_zero_point()) == (theirs.q_scale(), theirs.q_zero_point())
    else:
        assert ours.q_per_channel_axis() == theirs.q_per_channel_axis()
        assert torch.equal(ours.q_per_channel_scales(), theirs.q_per_channel_scales())
        assert torch.equal(ours.q_per_channel_zero_points(), theirs.q_per_channel_zero_points())
