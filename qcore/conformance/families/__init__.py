"""The operators that the kit has cases for, each with an oracle of its own."""

from __future__ import annotations

from qcore.conformance.case import Family
from qcore.conformance.families.attention import ATTENTION
from qcore.conformance.families.conv import CONV
from qcore.conformance.families.conv_transpose import CONV_TRANSPOSE
from qcore.conformance.families.elementwise import ADD, MUL
from qcore.conformance.families.embedding import EMBEDDING, EMBEDDING_BAG, FLOAT_EMBEDDING
from qcore.conformance.families.float_layers import FLOAT_ADD, FLOAT_FUNCTION, FLOAT_LAYER_NORM
from qcore.conformance.families.floats import DEQUANTIZE, QUANTIZE
from qcore.conformance.families.interpolate import INTERPOLATE
from qcore.conformance.families.joining import CAT, CLAMP
from qcore.conformance.families.linear import LINEAR
from qcore.conformance.families.linear_dynamic import LINEAR_DYNAMIC
from qcore.conformance.families.linear_fp16 import LINEAR_FP16
from qcore.conformance.families.lookup import LOOKUP, SOFTMAX
from qcore.conformance.families.matmul import MATMUL
from qcore.conformance.families.normalization import BATCH_NORM, GROUP_NORM, INSTANCE_NORM, LAYER_NORM
from qcore.conformance.families.pooling import ADAPTIVE_AVG_POOL, AVG_POOL, MAX_POOL, MEAN
from qcore.conformance.families.prelu import PRELU
from qcore.conformance.families.recurrent import GRU_CELLS, GRUS, LSTM_CELLS, LSTMS, RNN_CELLS
from qcore.conformance.families.training import (
    EVEN_HISTOGRAM,
    FAKE_QUANTIZE,
    FAKE_QUANTIZE_BACKWARD,
    HISTOGRAM,
    OBSERVE_FAKE_QUANTIZE,
    RANGE,
)
from qcore.errors import BackendError
from qcore.operators import Operator
from qcore.registry import registry

FAMILIES: dict[type[Operator], Family] = {
    family.operator: family
    for family in (
        QUANTIZE,
        DEQUANTIZE,
        FLOAT_FUNCTION,
        FLOAT_ADD,
        FLOAT_LAYER_NORM,
        FLOAT_EMBEDDING,
        LINEAR,
        LINEAR_DYNAMIC,
        LINEAR_FP16,
        EMBEDDING,
        EMBEDDING_BAG,
        LSTMS,
        GRUS,
        LSTM_CELLS,
        GRU_CELLS,
        RNN_CELLS,
        CONV,
        CONV_TRANSPOSE,
        BATCH_NORM,
        LAYER_NORM,
        GROUP_NORM,
        INSTANCE_NORM,
        ADD,
        MUL,
        MATMUL,
        ATTENTION,
        CLAMP,
        LOOKUP,
        PRELU,
        SOFTMAX,
        CAT,
        MAX_POOL,
        AVG_POOL,
        ADAPTIVE_AVG_POOL,
        MEAN,
        INTERPOLATE,
        RANGE,
        HISTOGRAM,
        EVEN_HISTOGRAM,
        FAKE_QUANTIZE,
        FAKE_QUANTIZE_BACKWARD,
        OBSERVE_FAKE_QUANTIZE,
    )
}
_OURS = frozenset(FAMILIES)


def take(name: str) -> None:
    """Add the cases that a backend's plugin brings for operators of its own.

    Raises BackendError for anything but families, and for an operator that the kit has cases for itself.
    """
    for family in registry.families(name):
        if not isinstance(family, Family):
            raise BackendError(f"{name}: qcore_families() must give qcore.conformance.Family objects; got {family!r}")
        if family.operator in _OURS:
            raise BackendError(f"{name}: the kit judges {family.operator.name} by cases of its own; bring none for it")
        FAMILIES[family.operator] = family
