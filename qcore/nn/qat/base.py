"""The stage of quantization-aware training: a float layer that rounds its weight as the quantized one will."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.nn.intrinsic.fused import FusedModule
from qcore.tensor.arguments import name_arguments_of

Self = TypeVar("Self", bound="QATModule")


class QATModule(nn.Module):
    """Base: `qconfig` makes `weight_fake_quant`; weights are float, and trained."""

    float_class: ClassVar[type[nn.Module]]
    """What `from_float` takes."""
    channel_axis: ClassVar[int] = 0
    """Where the channels of the weight lie."""
    with_relu: ClassVar[type[FusedModule] | None] = None
    """The float module of this layer and a ReLU; None where there is no ReLU."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name_arguments_of(cls, ("__init__",))

    qconfig: Any
    weight: Any
    bias: Any
    weight_fake_quant: nn.Module

    def _init_fake_quant(self, qconfig: Any) -> None:
        if not callable(getattr(qconfig, "weight", None)):
            raise ArgumentError(
                f"{type(self).__name__}: qconfig={qconfig!r}; give a QConfig whose weight is a fake-quantize "
                "module, as of get_default_qat_qconfig()"
            )
        self._check_qconfig(qconfig)
        self.qconfig = qconfig
        made: Any = qconfig.weight()
        if getattr(made, "is_per_channel", False):
            made.ch_axis = self.channel_axis
        self.weight_fake_quant = made

    def _check_qconfig(self, qconfig: Any) -> None:
        """Refuse what this kind of layer cannot be trained for."""

    def quantized_weight(self) -> Tensor:
        """The weight, fake-quantized."""
        weight: Tensor = self.weight_fake_quant(self.weight)
        return weight

    def _check_input(self, x: Any, ranks: tuple[int, ...], axis: int, features: int) -> None:
        """ArgumentTypeError or ArgumentError for an input that does not fit, before the weight's observer sees a thing.

        `ranks`: the numbers of dimensions that are allowed, any for none; `axis`: where it has its `features`.
        """
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"{self._label()} takes a tensor; got a {type(x).__name__}")
        shape = x.shape
        if len(shape) < -axis or (ranks and len(shape) not in ranks) or shape[axis] != features:
            wanted = f"{' or '.join(map(str, ranks))} dimensions" if ranks else "at least one dimension"
            raise ArgumentError(
                f"{self._label()} takes a tensor of {wanted}, with size {features} at dimension {axis}; got shape "
                f"{tuple(shape)}"
            )

    def _label(self) -> str:
        path = getattr(self, "qcore_path", "")
        return f"module {path!r} (QAT {type(self).__name__})" if path else f"QAT {type(self).__name__}"

    def _activated(self, result: Tensor) -> Tensor:
        return result if self.with_relu is None else F.relu(result)

    @classmethod
    def from_float(cls: type[Self], mod: nn.Module, use_precomputed_fake_quant: bool = False) -> Self:
        """The layer for a float one, fused or not, that has a `qconfig`; it shares the parameters of the float one.

        Raises ArgumentTypeError for another class, ArgumentError for a missing or unsuitable qconfig.
        """
        if not isinstance(mod, cls.float_class):
            raise ArgumentTypeError(
                f"{cls.__name__}.from_float takes a {cls.float_class.__name__}; got a {type(mod).__name__}"
            )
        layer: Any = mod[0] if isinstance(mod, FusedModule) else mod
        made = cls._like(layer, mod, getattr(mod, "qconfig", None))
        made._share(layer, mod)
        return made.to(made.weight.device).train(mod.training)

    @classmethod
    def _like(cls: type[Self], layer: Any, mod: Any, qconfig: Any) -> Self:
        """A layer with the sizes and settings of a float one."""
        raise NotImplementedError

    def _share(self, layer: Any, mod: Any) -> None:
        self.weight = layer.weight
        if hasattr(layer, "bias"):
            self.bias = layer.bias

    def to_float(self) -> nn.Module:
        """The float module that computes the same without rounding; a batch norm is folded, a ReLU kept."""
        layer = self._float_layer().train(self.training)
        return layer if self.with_relu is None else self.with_relu(layer, nn.ReLU()).train(self.training)

    def _float_layer(self) -> nn.Module:
        """A float layer with copies of the parameters."""
        raise NotImplementedError


def take_copies(layer: Any, qat: QATModule) -> nn.Module:
    """A float layer with copies of the weight and bias of a QAT one."""
    layer.weight = nn.Parameter(qat.weight.detach().clone())
    if getattr(qat, "bias", None) is not None:
        layer.bias = nn.Parameter(qat.bias.detach().clone())
    made: nn.Module = layer
    return made
