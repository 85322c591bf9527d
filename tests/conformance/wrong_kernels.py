"""More backends with one fault each: tables, embeddings, recurrent layers, norms and the other newer families."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Tensor

import qcore
from qcore import operators as ops
from qcore.tensor.dtypes import quint4x2, quint8
from tests.conformance.wrong_backends import KERNEL, PER_CHANNEL, PER_TENSOR, WRONG, Right
from tests.conformance.wrong_training import WRONG_IN_TRAINING

TABLES = (qcore.WeightSpec(quint8, per_channel=True),)


def recurrent(operator: type[ops.Operator], **options: tuple[str, ...]) -> tuple[qcore.OpSpec, ...]:
    return (qcore.OpSpec(operator, activations=(), weights=PER_TENSOR, **options),)


def quantized(value: Tensor, out: qcore.QParams) -> Tensor:
    """Rounded and clamped to quint8."""
    return (torch.round(value).double() + out.zero_point).clamp(0, 255).to(torch.uint8)


class WrongTableEntry(Right):
    ops = (qcore.OpSpec(ops.Lookup, functions=("sigmoid",)),)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out) ^ (x == 200).to(torch.uint8)


class CoarseTanh(Right):
    """Takes tanh from a function that is off by 1e-3."""

    ops = (qcore.OpSpec(ops.Lookup, functions=("tanh",)),)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, replace(out, scale=out.scale * 1.001))


class IgnoresSampleWeights(Right):
    ops = (qcore.OpSpec(ops.EmbeddingBag, activations=(), weights=TABLES),)

    def change(self, operator, kernel):
        return lambda indices, offsets, weights: kernel(indices, offsets, None)


class SumsForMeans(Right):
    ops = (qcore.OpSpec(ops.EmbeddingBag, activations=(), weights=TABLES),)

    def build(self, operator):
        return super().build(replace(operator, mode="sum"))


class PrunedRowsAsTheFirst(Right):
    ops = (qcore.OpSpec(ops.Embedding, activations=(), weights=TABLES),)

    def build(self, operator):
        mapping = None if operator.mapping is None else operator.mapping.clamp(min=0)
        return super().build(replace(operator, mapping=mapping))


class FullScalesOfFourBits(Right):
    """Keeps the scales of 4-bit rows in float32."""

    ops = (qcore.OpSpec(ops.Embedding, activations=(), weights=(qcore.WeightSpec(quint4x2, per_channel=True),)),)

    def build(self, operator):
        return super().build(replace(operator, qweight=replace(operator.qweight, dtype=quint8)))


class GateOrder(Right):
    """Takes the gates of an LSTM as input, cell, forget, output."""

    ops = recurrent(ops.LSTM)

    def build(self, operator):
        def swapped(part):
            return None if part is None else torch.cat([part.chunk(4)[k] for k in (0, 2, 1, 3)])

        names = ("w_ih", "w_hh", "b_ih", "b_hh")
        cells = [replace(cell, **{name: swapped(getattr(cell, name)) for name in names}) for cell in operator.cells]
        return super().build(replace(operator, cells=tuple(cells)))


class RangePerStep(Right):
    """Chooses the range of the input at each step, not for the whole sequence."""

    ops = recurrent(ops.GRU)

    def change(self, operator, kernel):
        def gru(x, h, batch_sizes):
            if batch_sizes is not None or len(operator.cells) > 1:
                return kernel(x, h, batch_sizes)
            outputs = []
            for step in x:
                y, h = kernel(step[None], h, None)
                outputs.append(y)
            return torch.cat(outputs), h

        return gru


class SwapsDirections(Right):
    ops = recurrent(ops.LSTM)

    def change(self, operator, kernel):
        def lstm(*args):
            y, h, c = kernel(*args)
            return (torch.cat(y.chunk(2, -1)[::-1], -1) if operator.bidirectional else y), h, c

        return lstm


class KeepsFinishedRows(Right):
    """Returns zeros as the states of sequences that ended before the last step."""

    ops = recurrent(ops.GRU)

    def change(self, operator, kernel):
        def gru(x, h, batch_sizes):
            y, last = kernel(x, h, batch_sizes)
            if batch_sizes is not None:
                last[:, int(batch_sizes[-1]) :] = 0
            return y, last

        return gru


class _OwnGRUCell(Right):
    """A GRU cell of the reference's linears; a fault goes into `step`."""

    ops = recurrent(ops.GRUCell)

    def build(self, operator):
        (cell,) = operator.cells
        make = qcore.registry.get("reference").build
        first = make(ops.LinearDynamic(cell.w_ih, cell.q_ih, cell.b_ih))
        second = make(ops.LinearDynamic(cell.w_hh, cell.q_hh, cell.b_hh))
        return lambda x, h: self.step(first(x).chunk(3, -1), second(h).chunk(3, -1), h)


class ResetGateOutside(_OwnGRUCell):
    """tanh((a + b) * r) where tanh(a + b * r) is written."""

    def step(self, a, b, h):
        from qcore_reference.gates import sigmoid, tanh

        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        n = tanh((a[2] + b[2]) * r)
        return (h - n) * z + n


class MixesInAnotherOrder(_OwnGRUCell):
    """(1 - z) * n + z * h: equal but for rounding."""

    def step(self, a, b, h):
        from qcore_reference.gates import sigmoid, tanh

        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        n = tanh(a[2] + b[2] * r)
        return (1 - z) * n + z * h


class TorchsSigmoid(_OwnGRUCell):
    def step(self, a, b, h):
        from qcore_reference.gates import tanh

        r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
        n = tanh(a[2] + b[2] * r)
        return (h - n) * z + n


class TanhOnly(Right):
    ops = recurrent(ops.RNNCell)

    def build(self, operator):
        return super().build(replace(operator, nonlinearity="tanh"))


class OneState(Right):
    """Returns h, and leaves c out."""

    ops = recurrent(ops.LSTMCell)

    def change(self, operator, kernel):
        return lambda x, h, c: kernel(x, h, c)[0]


class SumsInAnyOrder(Right):
    ops = (qcore.OpSpec(ops.LinearFp16, activations=()),)

    def build(self, operator):
        bias = 0 if operator.bias is None else operator.bias
        return lambda x: (x.double() @ operator.weight.double().T).float() + bias


class Flipped(Right):
    """Uses the kernel of a transposed convolution mirrored."""

    ops = (qcore.OpSpec(ops.ConvTranspose, weights=PER_CHANNEL, spatial=(2,)),)

    def build(self, operator):
        return super().build(replace(operator, weight=operator.weight.flip(2, 3)))


class MixesGroups(Right):
    """Takes every groups-th channel where neighbours make a group."""

    ops = (qcore.OpSpec(ops.ConvTranspose, weights=PER_CHANNEL, spatial=(1,)),)

    def change(self, operator, kernel):
        def conv_transpose(x, qx, out):
            split = x.unflatten(1, (-1, operator.groups)) if len(x) else x[:, :, None]
            return kernel(split.transpose(1, 2).flatten(1, 2), qx, out)

        return conv_transpose


class EdgesOnTheLeft(Right):
    """Puts the output padding before the result."""

    ops = (qcore.OpSpec(ops.ConvTranspose, weights=PER_TENSOR, spatial=(1,)),)

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out).roll(operator.output_padding[0], 2)


class FailsAtTheLimit(Right):
    """Loses sums over 2**30."""

    ops = (
        qcore.OpSpec(ops.Conv, weights=PER_CHANNEL, spatial=(2,), limits=(qcore.Limit("accumulated", 65793, "int32"),)),
    )

    def change(self, operator, kernel):
        return lambda x, qx, out: kernel(x, qx, out) ^ int(operator.weight[0].numel() > 50_000)


class EpsOutside(Right):
    """sqrt(var) + eps where sqrt(var + eps) is written."""

    ops = (qcore.OpSpec(ops.LayerNorm),)

    def build(self, operator):
        from qcore_reference.arithmetic import fma
        from qcore_reference.normalization import statistics

        weight = torch.ones(1) if operator.weight is None else operator.weight
        bias = torch.zeros(1) if operator.bias is None else operator.bias

        def layer_norm(x, qx, out):
            d, e = statistics(x.reshape(-1, prod(operator.normalized_shape)), qx, 0.0)
            v = fma((d * (torch.tensor(qx.scale).float() / (e + operator.eps))).reshape(x.shape), weight, bias)
            return quantized(v * (1 / torch.tensor(out.scale).float()), out)

        return layer_norm


class _OwnGroups(Right):
    """Group and instance norms of the reference's statistics; a fault goes into `value`."""

    def build(self, operator):
        from qcore_reference.normalization import statistics

        def norm(x, qx, out):
            if not x.numel():
                return x.clone()
            channels = x.shape[1]
            groups = getattr(operator, "num_groups", channels)
            shape = (1, -1, *(1,) * (x.ndim - 2))
            d, e = statistics(x.reshape(len(x) * groups, -1), qx, operator.eps)
            e = e.reshape(len(x), groups).repeat_interleave(channels // groups, 1).reshape(len(x), *shape[1:])
            weight = (torch.ones(channels) if operator.weight is None else operator.weight).reshape(shape)
            bias = (torch.zeros(channels) if operator.bias is None else operator.bias).reshape(shape)
            count = x.numel() // (len(x) * groups)
            v = self.value(d.reshape(x.shape), e, torch.tensor(qx.scale).float(), weight, bias, count)
            y = quantized(v * (1 / torch.tensor(out.scale).float()), out)
            return torch.empty_like(x).copy_(y)

        return norm


class UnfusedNorm(_OwnGroups):
    """Rounds the product before the bias is added."""

    ops = (qcore.OpSpec(ops.GroupNorm),)

    def value(self, d, e, scale, weight, bias, count):
        return d * (weight * scale / e) + bias


class UnbiasedVariance(_OwnGroups):
    ops = (qcore.OpSpec(ops.InstanceNorm),)

    def value(self, d, e, scale, weight, bias, count):
        return d * (weight * scale / (e * (count / max(1, count - 1)) ** 0.5)) + bias


class InterleavedGroups(Right):
    ops = (qcore.OpSpec(ops.GroupNorm),)

    def change(self, operator, kernel):
        def norm(x, qx, out):
            order = torch.arange(x.shape[1]).reshape(operator.num_groups, -1).T.flatten()
            return kernel(x[:, order], qx, out)[:, order.argsort()].contiguous(memory_format=torch.preserve_format)

        return norm


class SingleScales(Right):
    """Divides the scales of a batch norm in float32."""

    ops = (qcore.OpSpec(ops.BatchNorm),)

    def change(self, operator, kernel):
        def batch_norm(x, qx, out):
            ratio = torch.tensor(qx.scale).float() / torch.tensor(out.scale).float()
            return kernel(x, replace(qx, scale=float(ratio) * out.scale), out)

        return batch_norm


class IgnoresCorners(Right):
    ops = (qcore.OpSpec(ops.Interpolate),)

    def build(self, operator):
        return super().build(replace(operator, align_corners=False))


class SizesForFactors(Right):
    """Steps by the sizes where a factor is given."""

    ops = (qcore.OpSpec(ops.Interpolate),)

    def build(self, operator):
        make = super().build

        def interpolate(x, qx):
            factors = operator.scale_factor
            if factors is None:
                return make(operator)(x, qx)
            size = tuple(int(n * factor) for n, factor in zip(x.shape[2:], factors, strict=True))
            return make(replace(operator, size=size, scale_factor=None))(x, qx)

        return interpolate


class LastDimension(Right):
    ops = (qcore.OpSpec(ops.Softmax),)

    def build(self, operator):
        return super().build(ops.Softmax(-1))


class OneSlope(Right):
    """Uses the first weight for all channels."""

    ops = (qcore.OpSpec(ops.PReLU, weights=(qcore.WeightSpec(quint8),)),)

    def build(self, operator):
        return super().build(replace(operator, weight=operator.weight[:1]))


class WholeZeroPoints(Right):
    """Rounds zero points that are floats."""

    ops = (qcore.OpSpec(ops.Quantize, options=("float_zero_points",)),)

    def change(self, operator, kernel):
        def quantize(x, out):
            return kernel(x, replace(out, zero_point=out.zero_point.round()) if operator.float_zero_points else out)

        return quantize


ALL: dict[type[Right], tuple[set[str], str]] = WRONG | {
    WrongTableEntry: (KERNEL, "lookup-quint8-sigmoid: .* elements differ"),
    CoarseTanh: (KERNEL, "lookup-quint8-tanh: .* elements differ"),
    IgnoresSampleWeights: (KERNEL, "embedding_bag-quint8_per_channel: .* elements differ"),
    SumsForMeans: (KERNEL, "mode: 'mean'"),
    PrunedRowsAsTheFirst: (KERNEL, r"mapping: torch.int\d\d"),
    FullScalesOfFourBits: (KERNEL, "embedding-quint4x2_per_channel: .* elements differ"),
    GateOrder: (KERNEL, "result 0: .* elements differ.*cells: .w_ih torch.int8"),
    RangePerStep: (KERNEL, "gru-qint8_per_tensor: result 0: .* elements differ"),
    SwapsDirections: (KERNEL, "bidirectional: True"),
    KeepsFinishedRows: (KERNEL, "result 1: .* elements differ"),
    ResetGateOutside: (KERNEL, "gru_cell-qint8_per_tensor: .* elements differ"),
    MixesInAnotherOrder: (KERNEL, "gru_cell-qint8_per_tensor: .* elements differ"),
    TorchsSigmoid: (KERNEL, "gru_cell-qint8_per_tensor: .* elements differ"),
    TanhOnly: (KERNEL, "nonlinearity: 'relu'"),
    OneState: (KERNEL, "returned a Tensor, not a tuple of 2 tensors"),
    SumsInAnyOrder: (KERNEL, "linear_fp16: .* elements differ"),
    Flipped: (KERNEL, "conv_transpose2d-quint8-qint8_per_channel: .* elements differ"),
    MixesGroups: (KERNEL, "groups: "),
    EdgesOnTheLeft: (KERNEL, r"output_padding: \([12],\)"),
    FailsAtTheLimit: (KERNEL, r"from the exact sum -?\d{10}"),
    EpsOutside: (KERNEL, "layer_norm-quint8: .* elements differ"),
    UnfusedNorm: (KERNEL, "group_norm-quint8: .* elements differ"),
    UnbiasedVariance: (KERNEL, "instance_norm-quint8: .* elements differ"),
    InterleavedGroups: (KERNEL, "num_groups: [2-8]"),
    SingleScales: (KERNEL, "batch_norm-quint8: .* elements differ"),
    IgnoresCorners: (KERNEL, "align_corners: True"),
    SizesForFactors: (KERNEL, r"scale_factor: \("),
    LastDimension: (KERNEL, "dim: "),
    OneSlope: (KERNEL, "prelu-quint8-quint8_per_tensor: .* elements differ"),
    WholeZeroPoints: (KERNEL, "float_zero_points: True"),
    **WRONG_IN_TRAINING,
}
