"""FloatFunctional and QFunctional: observation of float results, and torch's bits for quantized ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qcore
from qcore.nn.quantized import FloatFunctional, FXFloatFunctional, QFunctional
from qcore.nn.quantized.scalar import add_scalar, mul_scalar
from tests import oracle

# smaller factors would give a scale that float32 does not hold, which is refused
NUMBERS = st.one_of(
    st.floats(1e-20, 40),
    st.floats(-40, -1e-20),
    st.sampled_from([0.0, 1.0, -1.0, 0.05, -0.05]),
)


@pytest.mark.parametrize("kind", [FloatFunctional, FXFloatFunctional])
def test_float_results(kind):
    f, a, b = kind(), torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(f.add(a, b), a + b) and torch.equal(f.mul(a, b), a * b)
    assert torch.equal(f.add_scalar(a, 2.0), a + 2) and torch.equal(f.mul_scalar(a, 2.0), a * 2)
    assert torch.equal(f.cat([a, b], 1), torch.cat([a, b], 1)) and torch.equal(f.add_relu(a, b), (a + b).relu())
    assert torch.equal(f.matmul(a, b.T), a @ b.T)
    with pytest.raises(RuntimeError, match="add, mul"):
        f(a)


def test_each_float_result_is_observed():
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, x):
            seen.append(x.shape)
            return x

    f = FloatFunctional()
    f.activation_post_process = Recorder()
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    f.add(a, b), f.mul(a, b), f.cat([a, b]), f.add_relu(a, b), f.matmul(a, b.T)
    assert seen == [(2, 3), (2, 3), (4, 3), (2, 3), (2, 2)]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    number=NUMBERS,
    scale=st.floats(1e-3, 1.0),
    zero_point=st.integers(0, 255),
    relu=st.booleans(),
    name=st.sampled_from(["add_scalar", "mul_scalar"]),
)
def test_numbers_change_parameters_as_in_torch(number, scale, zero_point, relu, name):
    raw = torch.arange(256, dtype=torch.uint8)
    x = qcore.QTensor(raw, qcore.QParams(qcore.quint8, scale, zero_point))
    found = {"add_scalar": add_scalar, "mul_scalar": mul_scalar}[name](x, number, relu)
    with oracle.engine():
        kernel = getattr(torch.ops.quantized, f"{name}_relu" if relu else name)
        expected = kernel(oracle.to_torch(raw, x.qparams), number)
        assert (found.q_scale(), found.q_zero_point()) == (expected.q_scale(), expected.q_zero_point())
        assert torch.equal(found.int_repr(), expected.int_repr())
    assert torch.equal(raw, torch.arange(256, dtype=torch.uint8))


def test_float_operands_shapes_that_do_not_fit_and_calls_are_refused():
    f, x = QFunctional(), qcore.quantize_per_tensor(torch.randn(2, 3), 0.1, 100, qcore.quint8)
    for call in (
        lambda: f.add(x, torch.randn(2, 3)),
        lambda: f.cat([torch.randn(2)]),
        lambda: f.mul_scalar(torch.ones(1), 2),
    ):
        with pytest.raises(qcore.QuantizationError, match="QuantStub"):
            call()
    with pytest.raises(qcore.ArgumentError, match="3 columns meet 2 rows"):
        f.matmul(x, x)
    with pytest.raises(RuntimeError, match="add, mul"):
        f(x)
    with pytest.raises(qcore.ArgumentTypeError, match="at least one"):
        f.cat([])


def test_scale_and_zero_point_are_checked_when_set():
    f = QFunctional()
    f.scale, f.zero_point = 0.5, 3
    assert (f.output_qparams.scale, f.output_qparams.zero_point) == (0.5, 3)
    for name, value in (("scale", 0.0), ("scale", float("nan")), ("zero_point", 256)):
        with pytest.raises(qcore.ArgumentError, match=name):
            setattr(f, name, value)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4,)), ((4,), (4,)), ((4,), (2, 4, 5))],
)
def test_matmul_takes_shapes_as_torch_does(left, right):
    f, a, b = QFunctional(), torch.randint(0, 256, left).byte(), torch.randint(0, 256, right).byte()
    f.scale, f.zero_point = 30.0, 100
    qa, qb = (
        qcore.quantize_per_tensor((each.float() - zero_point) * scale, scale, zero_point, qcore.quint8)
        for each, scale, zero_point in ((a, 0.5, 7), (b, 0.25, 200))
    )
    exact = (a.long() - 7) @ (b.long() - 200)
    expected = (torch.round(exact.float() * (0.125 / 30)) + 100).clamp(0, 255).byte()
    result = f.matmul(qa, qb)
    assert torch.equal(result.int_repr(), expected)
    assert result.shape == torch.matmul(a.float(), b.float()).shape
