"""Backends with one fault each in the operators of calibration and training."""

from __future__ import annotations

from dataclasses import replace

import torch

import qcore
from qcore import training_operators as training
from tests.conformance.wrong_backends import KERNEL, Right

TRAINING = {
    kind: qcore.OpSpec(kind, activations=())
    for kind in (
        training.Range,
        training.Histogram,
        training.EvenHistogram,
        training.FakeQuantize,
        training.FakeQuantizeBackward,
        training.ObserveFakeQuantize,
    )
}


class SkipsNan(Right):
    """The range of what is finite."""

    ops = (TRAINING[training.Range],)

    def change(self, operator, kernel):
        return lambda x, axis: kernel(x.nan_to_num(0.0, 0.0, 0.0), axis)


class RoundsBins(Right):
    """Counts in the nearest bin, not in the one that holds the value."""

    ops = (TRAINING[training.Histogram],)

    def change(self, operator, kernel):
        def histogram(x, exponent, first):
            index = (x.double() * 2.0**-exponent).round().nan_to_num(0.0, 0.0, 0.0) - first
            inside = index[(index >= 0) & (index < operator.bins)].long()
            return torch.bincount(inside, minlength=operator.bins), *kernel(x, exponent, first)[1:]

        return histogram


class LosesTheGreatest(Right):
    """Does not count the greatest value, whose bin would be the one after the last."""

    ops = (TRAINING[training.EvenHistogram],)

    def change(self, operator, kernel):
        def even_histogram(x, low, high):
            counts = kernel(x, low, high)
            counts[-1] -= (x == high).sum()
            return counts

        return even_histogram


class Divides(Right):
    """x / scale in place of x * (1 / scale)."""

    ops = (TRAINING[training.FakeQuantize],)

    def change(self, operator, kernel):
        def fake_quantize(x, scale, zero_point, axis):
            shape = [-1 if dim == axis else 1 for dim in range(x.ndim)]
            s, z = scale.reshape(shape), zero_point.reshape(shape)
            integer = (torch.round(x / s).double() + z).clamp(operator.quant_min, operator.quant_max)
            return (integer - z).float() * s, None

        return fake_quantize


class KeepsMinusZero(Right):
    ops = (TRAINING[training.FakeQuantize],)

    def change(self, operator, kernel):
        def fake_quantize(*args):
            y, mask = kernel(*args)
            return torch.where(y == 0, torch.copysign(y, args[0]), y), mask

        return fake_quantize


class MultipliesGradients(Right):
    """By 0 or 1, which leaves NaN outside of the range."""

    ops = (TRAINING[training.FakeQuantize], TRAINING[training.FakeQuantizeBackward])

    def change(self, operator, kernel):
        gradient = isinstance(operator, training.FakeQuantizeBackward)
        return (lambda grad, mask: grad * mask) if gradient else kernel


class AveragesFromZero(Right):
    """Moves averages that do not exist yet as if they were 0."""

    ops = (TRAINING[training.ObserveFakeQuantize],)

    def change(self, operator, kernel):
        def observe_fake_quantize(x, low, high, *rest):
            low.nan_to_num_(0.0, 0.0, 0.0)
            high.nan_to_num_(0.0, 0.0, 0.0)
            return kernel(x, low, high, *rest)

        return observe_fake_quantize


class Asymmetric(Right):
    ops = (TRAINING[training.ObserveFakeQuantize],)

    def build(self, operator):
        return super().build(replace(operator, symmetric=False))


class OneRule(Right):
    """Chooses parameters by the rule of dynamic quantization always."""

    ops = (TRAINING[training.ObserveFakeQuantize],)

    def build(self, operator):
        return super().build(replace(operator, eps=None))


WRONG_IN_TRAINING: dict[type[Right], tuple[set[str], str]] = {
    SkipsNan: (KERNEL, "range: result 0: .* expected nan"),
    RoundsBins: (KERNEL, "histogram: result 0: .* elements differ"),
    LosesTheGreatest: (KERNEL, "even_histogram: 1 of [0-9]+ elements differ"),
    Divides: (KERNEL, "fake_quantize: .* elements differ"),
    KeepsMinusZero: (KERNEL, "fake_quantize: result 1: .*got -inf, expected inf"),
    MultipliesGradients: (KERNEL, "fake_quantize_backward: .*got nan, expected 0.0"),
    AveragesFromZero: (KERNEL, "observe_fake_quantize: result 0: .* elements differ"),
    Asymmetric: (KERNEL, "symmetric: True"),
    OneRule: (KERNEL, "eps: "),
}
