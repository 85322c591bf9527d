"""The 22 functions on quantized tensors against torch's originals."""

from __future__ import annotations

import warnings

import pytest
import torch

import qcore
from qcore.nn.quantized import functional as qF
from tests import oracle

PLANE = (2, 64, 6, 7)
CUBE = (1, 64, 4, 5, 6)

CALLS = {
    "avg_pool2d": (PLANE, (3, 2, 1), {}),
    "avg_pool3d": (CUBE, (3,), {}),
    "adaptive_avg_pool2d": (PLANE, ((3, 1),), {}),
    "adaptive_avg_pool3d": (CUBE, (1,), {}),
    "max_pool1d": ((2, 3, 9), (2,), {}),
    "max_pool2d": (PLANE, ((2, 3), 1, 1, 1), {"ceil_mode": True}),
    "interpolate": (PLANE, (), {"scale_factor": 2.0}),
    "upsample": (PLANE, (), {"size": (9, 11)}),
    "upsample_nearest": (PLANE, (), {"scale_factor": 2}),
    "upsample_bilinear": (PLANE, (), {"size": (9, 11)}),
    "hardtanh": (PLANE, (-0.5, 1.5), {}),
    "clamp": (PLANE, (-0.5, 1.5), {}),
    "threshold": (PLANE, (0.5, -1.0), {}),
    "hardsigmoid": (PLANE, (), {}),
    "leaky_relu": (PLANE, (0.2,), {}),
    "elu": (PLANE, (0.0317, 7, 0.8), {}),
    "celu": (PLANE, (0.0317, 7, 0.8), {}),
    "hardswish": (PLANE, (0.0317, 7), {}),
}


def original(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import functional
    return getattr(functional, name)


def both(name, x, *args, **kwargs):
    """Our result and torch's, with its scale and zero point checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(qF, name)(x, *args, **kwargs)
    theirs = [oracle.to_torch(arg.raw, arg.qparams) if isinstance(arg, qcore.QTensor) else arg for arg in (x, *args)]
    with oracle.engine():
        expected = original(name)(*theirs, **kwargs)
        assert found.q_scale() == pytest.approx(expected.q_scale(), rel=1e-7)
        assert found.q_zero_point() == expected.q_zero_point()
        return found.int_repr(), expected.int_repr()


def drawn(shape, scale=0.0213, zero_point=101):
    # quotients of this and the output scales lie on no ties, where torch depends on the layout
    return qcore.quantize_per_tensor(torch.randn(shape) * 2, scale, zero_point, qcore.quint8)


@pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing())
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CALLS)
def test_equals_torchs(name, seed):
    torch.manual_seed(seed)
    shape, args, kwargs = CALLS[name]
    x = drawn(shape)
    if "pool" in name and len(shape) > 3:  # in the layout where torch's pooling does not contradict itself
        last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        x = qcore.QTensor(x.raw.contiguous(memory_format=last), x.qparams)
    found, expected = both(name, x, *args, **kwargs)
    assert torch.equal(found, expected)


def summable(x):
    return qcore.QTensor(oracle.summable(x.int_repr()), x.qparams)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_equal_torchs(rank):
    torch.manual_seed(rank)
    x = summable(drawn((2, 4, *(6, 7, 5)[:rank])))
    scales = torch.rand(6) / 100 + 0.001
    weight = qcore.quantize_per_channel(
        torch.randn(6, 2, *(3,) * rank) / 5, scales, torch.zeros(6).long(), 0, qcore.qint8
    )
    for bias in (torch.randn(6), None):
        found, expected = both(f"conv{rank}d", x, weight, bias, 2, 1, 1, 2, scale=0.05, zero_point=100)
        assert torch.equal(found, expected)


def test_linear_equals_torchs():
    torch.manual_seed(0)
    x = summable(drawn((3, 5, 8)))
    weight = qcore.quantize_per_tensor(torch.randn(6, 8), 0.02, 0, qcore.qint8)
    for args in ((torch.randn(6), 0.1, 90), (None, 0.1, 90), (torch.randn(6),)):
        found, expected = both("linear", x, weight, *args)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [*CALLS, "linear", "conv1d", "conv2d", "conv3d"])
def test_a_float_input_is_refused(name):
    arguments = {"linear": (torch.randn(3, 4),), "conv": (torch.randn(2, 4, 3, 3), None)}.get(
        name[:4] if name.startswith("conv") else name, CALLS.get(name, ((), (), {}))[1]
    )
    with warnings.catch_warnings(), pytest.raises(qcore.ArgumentTypeError, match="must be a quantized tensor"):
        warnings.simplefilter("ignore")
        getattr(qF, name)(torch.randn(PLANE), *arguments)


def test_half_given_output_parameters_and_indices_are_refused():
    x = drawn(PLANE)
    with pytest.raises(qcore.ArgumentError, match="together"):
        qF.leaky_relu(x, scale=0.1)
    with pytest.raises(qcore.ArgumentError, match="return_indices"):
        qF.max_pool2d(x, 2, return_indices=True)
    with pytest.raises(qcore.ArgumentError, match="scale"):
        qF.elu(x, 0.0, 0)
