"""What backends on the kernels of qcore/include declare, and the class that builds each operator."""

from __future__ import annotations

from typing import Any

from qcore import operators as ops
from qcore import tables
from qcore.capability import Capability, Limit, OpSpec, WeightSpec, standard_patterns
from qcore.native import (
    activation,
    attention,
    elementwise,
    embedding,
    floats,
    interpolate,
    matmul,
    normalization,
    pooling,
    recurrent,
    training,
    transposed,
    weighted,
)
from qcore.operators import Operator
from qcore.tensor.dtypes import qint8, quint4x2, quint8

INTEGERS = quint8, qint8
WEIGHTS = (WeightSpec(qint8, per_channel=True), WeightSpec(qint8, per_channel=False))
_SUM = "sums of more products of 255 * 255 could leave int32"
MAX_ACCUMULATED = 33025
TABLES = (WeightSpec(quint8, per_channel=True), WeightSpec(quint4x2, per_channel=True))
RECURRENT = (ops.LSTM, ops.GRU, ops.LSTMCell, ops.GRUCell, ops.RNNCell)

OPS = (
    OpSpec(ops.Quantize, activations=INTEGERS),
    OpSpec(ops.Dequantize, activations=INTEGERS),
    OpSpec(
        ops.Linear,
        activations=INTEGERS,
        weights=WEIGHTS,
        fused=("relu",),
        limits=(Limit("in_features", MAX_ACCUMULATED, _SUM),),
    ),
    OpSpec(
        ops.LinearDynamic,
        weights=WEIGHTS,
        fused=("relu",),
        options=("per_row", "reduce_range"),
        limits=(Limit("in_features", MAX_ACCUMULATED, _SUM),),
    ),
    OpSpec(
        ops.Conv,
        activations=INTEGERS,
        weights=WEIGHTS,
        fused=("relu",),
        spatial=(1, 2, 3),
        limits=(Limit("accumulated", MAX_ACCUMULATED, _SUM),),
    ),
    OpSpec(
        ops.ConvTranspose,
        activations=INTEGERS,
        weights=WEIGHTS,
        fused=("relu",),
        spatial=(1, 2, 3),
        limits=(Limit("accumulated", MAX_ACCUMULATED, _SUM),),
    ),
    OpSpec(ops.Add, activations=INTEGERS, fused=("relu",)),
    OpSpec(ops.Mul, activations=INTEGERS, fused=("relu",)),
    OpSpec(ops.MatMul, activations=INTEGERS),
    OpSpec(ops.Clamp, activations=INTEGERS),
    OpSpec(ops.Lookup, activations=INTEGERS, functions=tuple(tables.FUNCTIONS)),
    OpSpec(ops.Cat, activations=INTEGERS, fused=("relu",)),
    OpSpec(ops.MaxPool, activations=INTEGERS, spatial=(1, 2, 3)),
    OpSpec(ops.AvgPool, activations=INTEGERS, spatial=(1, 2, 3)),
    OpSpec(ops.AdaptiveAvgPool, activations=INTEGERS, spatial=(1, 2, 3)),
    OpSpec(ops.Mean, activations=INTEGERS),
    OpSpec(ops.BatchNorm, activations=INTEGERS, fused=("relu",)),
    OpSpec(ops.LayerNorm, activations=INTEGERS),
    OpSpec(ops.GroupNorm, activations=INTEGERS),
    OpSpec(ops.InstanceNorm, activations=INTEGERS),
    OpSpec(ops.Interpolate, activations=INTEGERS),
    OpSpec(ops.PReLU, activations=INTEGERS, weights=(WeightSpec(quint8), WeightSpec(qint8))),
    OpSpec(ops.Softmax, activations=INTEGERS),
    OpSpec(ops.Attention, activations=()),
    OpSpec(ops.LinearFp16, activations=(), fused=("relu",)),
    OpSpec(ops.FloatFunction, activations=(), functions=ops.FLOAT_FUNCTIONS),
    OpSpec(ops.FloatAdd, activations=()),
    OpSpec(ops.FloatLayerNorm, activations=()),
    OpSpec(ops.FloatEmbedding, activations=()),
    *(
        OpSpec(
            operator,
            activations=(),
            weights=WEIGHTS,
            options=("per_row", "reduce_range", "float16"),
            limits=(Limit("in_features", MAX_ACCUMULATED, _SUM),),
        )
        for operator in RECURRENT
    ),
    OpSpec(ops.Embedding, activations=(), weights=TABLES),
    OpSpec(ops.EmbeddingBag, activations=(), weights=TABLES),
    *(OpSpec(operator, activations=()) for operator in training.OPS),
)

BUILDERS: dict[type[Operator], Any] = {
    ops.Quantize: elementwise.Quantize,
    ops.Dequantize: elementwise.Dequantize,
    ops.Linear: weighted.Linear,
    ops.LinearDynamic: weighted.LinearDynamic,
    ops.Conv: weighted.Conv,
    ops.ConvTranspose: transposed.ConvTranspose,
    ops.Add: elementwise.Add,
    ops.Mul: elementwise.Mul,
    ops.MatMul: matmul.MatMul,
    ops.Clamp: elementwise.Clamp,
    ops.Lookup: elementwise.Lookup,
    ops.Cat: elementwise.Cat,
    ops.MaxPool: pooling.MaxPool,
    ops.AvgPool: pooling.AvgPool,
    ops.AdaptiveAvgPool: pooling.AdaptiveAvgPool,
    ops.Mean: normalization.Mean,
    ops.BatchNorm: normalization.BatchNorm,
    ops.LayerNorm: normalization.LayerNorm,
    ops.GroupNorm: normalization.GroupNorm,
    ops.InstanceNorm: normalization.InstanceNorm,
    ops.Interpolate: interpolate.Interpolate,
    ops.PReLU: activation.PReLU,
    ops.Softmax: activation.Softmax,
    ops.Attention: attention.Attention,
    ops.LinearFp16: recurrent.LinearFp16,
    ops.FloatFunction: floats.FloatFunction,
    ops.FloatAdd: floats.FloatAdd,
    ops.FloatLayerNorm: floats.FloatLayerNorm,
    ops.FloatEmbedding: embedding.FloatEmbedding,
    ops.LSTM: recurrent.LSTM,
    ops.GRU: recurrent.GRU,
    ops.LSTMCell: recurrent.LSTMCell,
    ops.GRUCell: recurrent.GRUCell,
    ops.RNNCell: recurrent.RNNCell,
    ops.Embedding: embedding.Embedding,
    ops.EmbeddingBag: embedding.EmbeddingBag,
    **{operator: getattr(training, operator.__name__) for operator in training.OPS},
}
CAPABILITY = Capability(OPS, standard_patterns(OPS))
