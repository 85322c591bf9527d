"""Functions of one variable, through the tables of qcore.tables."""

from __future__ import annotations

from torch import Tensor

from qcore import tables
from qcore.backend import Kernel
from qcore.capability import OpSpec
from qcore.operators import Lookup
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qparams import QParams
from qcore_reference.arithmetic import like

OPS = (OpSpec(Lookup, activations=(quint8, qint8), functions=tuple(tables.FUNCTIONS)),)


def build_lookup(operator: Lookup) -> Kernel:
    """y = table[x - qmin], never a view of the table."""

    def lookup(x: Tensor, qx: QParams, out: QParams) -> Tensor:
        table = tables.table(operator.function, operator.args, qx, out)
        return like(table.take(x.long() - qx.dtype.qmin), x)

    return lookup


KERNELS = {Lookup: build_lookup}
