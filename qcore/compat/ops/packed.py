"""What the prepack operators give: weights with their bias and sizes, and the kernels made of them so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from qcore.backend import Kernel
from qcore.binding import bind
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.operators import Operator
from qcore.tensor.dtypes import QDType, qint8
from qcore.tensor.qtensor import QTensor


class Packed:
    """Weights for operators called directly. Copies and pickles hold the weights; kernels are made anew.

    `backend` runs them: that of the weight.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = None if bias is None else bias.detach().float()
        self.backend: str | None = getattr(weight, "backend", None)
        self._kernels: dict[Any, Kernel] = {}

    def unpack(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias."""
        return self.weight, self.bias

    def kernel(self, key: Any, make: Callable[[], Operator], dtypes: tuple[QDType, ...] = ()) -> Kernel:
        """The kernel of the operator that `make` makes, kept under a key."""
        found = self._kernels.get((key, dtypes))
        if found is None:
            found = self._kernels[key, dtypes] = bind(self.backend, make(), dtypes).build()
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernels": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        import copy

        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return new


def integer_weight(weight: Any, bias: Any, name: str, axis: int, channels: int) -> QTensor:
    """A qint8 weight that fits its bias, per tensor or per channel on an axis; else ArgumentError."""
    if not isinstance(weight, QTensor):
        raise ArgumentTypeError(f"torch.ops.quantized.{name}: the weight must be quantized, not of {weight.dtype}")
    if weight.qparams.dtype != qint8 or weight.qparams.axis not in (None, axis):
        raise ArgumentError(
            f"torch.ops.quantized.{name}: the weight must be qint8, per tensor or per channel on axis {axis}; got "
            f"{weight.qparams.dtype!r}, axis {weight.qparams.axis}"
        )
    if bias is not None and (isinstance(bias, QTensor) or tuple(bias.shape) != (channels,)):
        raise ArgumentError(f"torch.ops.quantized.{name}: the bias must be float, of shape ({channels},)")
    return weight


def packed_as(kind: type[Any], value: Any, name: str) -> Any:
    """A packed weight of a kind; ArgumentTypeError for anything else."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(
            f"torch.ops.quantized.{name}: the packed weight is a {type(value).__name__}, not a {kind.__name__}, which "
            "the prepack operator of the same family makes"
        )
    return value
