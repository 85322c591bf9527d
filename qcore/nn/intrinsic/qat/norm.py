"""A layer and its batch norm, trained with the weight that the folded layer will have."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentError
from qcore.nn.intrinsic.folding import fold_norm
from qcore.nn.qat.base import QATModule

Self = TypeVar("Self", bound="WithNorm")

_FORMER_KEYS = {
    "gamma": "bn.weight",
    "beta": "bn.bias",
    "running_mean": "bn.running_mean",
    "running_var": "bn.running_var",
    "num_batches_tracked": "bn.num_batches_tracked",
}


class _Quotient(torch.autograd.Function):
    """x / scale in the place of x, where scale broadcasts; its gradients, the bits of torch, take few passes over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        result = x.div_(scale)
        ctx.mark_dirty(result)
        ctx.save_for_backward(result, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        result, scale = ctx.saved_tensors
        of_x, of_scale = ctx.needs_input_grad
        room = result / scale if of_scale else None
        gradient = None if room is None else -room.mul_(grads[0]).sum_to_size(scale.shape)
        if torch.is_grad_enabled():  # gradients of gradients are wanted, and room is part of them
            room = None
        return torch.div(grads[0], scale, out=room) if of_x else None, gradient


class WithNorm(QATModule):
    """Base: fake-quantizes weight * gamma / running_std, undoes that scale on the result, and normalizes it.

    While `freeze_bn` is set, the batch norm uses its running statistics and keeps them, in training mode too.
    Source: Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.2.2.
    """

    norm_class: ClassVar[type[nn.modules.batchnorm._BatchNorm]]
    _version = 2

    freeze_bn: bool
    bn: Any

    def _init_norm(self, channels: int, eps: float, momentum: float | None, freeze_bn: bool, qconfig: Any) -> None:
        self._init_fake_quant(qconfig)
        self._enable_slow_path_for_better_numerical_stability = False
        self.bn = self.norm_class(channels, eps, momentum)
        self.reset_bn_parameters()
        self._set_frozen(freeze_bn)

    def reset_running_stats(self) -> None:
        """Start the running statistics anew."""
        self.bn.reset_running_stats()

    def reset_bn_parameters(self) -> None:
        """Start the running statistics and the parameters of the batch norm anew, and draw a new bias of the layer."""
        self.bn.reset_parameters()
        nn.init.uniform_(self.bn.weight)
        if self.bias is not None:
            reach = self.weight[0].numel() ** -0.5
            nn.init.uniform_(self.bias, -reach, reach)

    def update_bn_stats(self: Self) -> Self:
        """Normalize by each batch, and update the running statistics."""
        return self._set_frozen(False)

    def freeze_bn_stats(self: Self) -> Self:
        """Normalize by the running statistics, and keep them."""
        return self._set_frozen(True)

    def _set_frozen(self: Self, frozen: bool) -> Self:
        self.freeze_bn = frozen
        self.bn.training = not frozen
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set the mode; a frozen batch norm stays frozen."""
        super().train(mode)
        if self.freeze_bn:
            self.bn.eval()
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as of the float layer."""
        exact = self._enable_slow_path_for_better_numerical_stability
        return self._activated(self._moved(input) if exact else self._rescaled(input))

    def _weigh(self, input: Tensor, weight: Tensor) -> Tensor:
        """The layer without its bias, with some weight."""
        raise NotImplementedError

    def _folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """The fake-quantized weight of the folded layer, its scale for each channel, the running deviation."""
        deviation = torch.sqrt(self.bn.running_var + self.bn.eps)
        factor = self.bn.weight / deviation
        shape = [-1] + [1] * (self.weight.ndim - 1)
        return self.weight_fake_quant(self.weight * factor.reshape(shape)), factor, deviation

    def _by_channel(self, values: Tensor) -> Tensor:
        """One value for each channel, shaped to broadcast over results."""
        return values.reshape([1, -1] + [1] * (self.weight.ndim - 2))

    def _rescaled(self, input: Tensor) -> Tensor:
        """One pass. Channels whose gamma is 0, by which nothing can be divided, are not rounded: gamma clears them, and
        learns from what it clears."""
        weight, factor, _ = self._folded()
        cleared = factor.detach() == 0
        if torch.compiler.is_compiling() or bool(cleared.any()):
            weight = torch.where(cleared.reshape([-1] + [1] * (self.weight.ndim - 1)), self.weight, weight)
            factor = torch.where(cleared, 1.0, factor)
        result: Tensor = _Quotient.apply(self._weigh(input, weight), self._by_channel(factor))  # type: ignore[no-untyped-call]
        if self.bias is not None:
            result = result + self._by_channel(self.bias)
        normalized: Tensor = self.bn(result)
        return normalized

    def _moved(self, input: Tensor) -> Tensor:
        """The folded layer, moved from the running statistics to those in use; holds for gamma = 0 too."""
        mean, deviation = self._batch_statistics(input) if self.bn.training else (None, None)
        weight, _, running = self._folded()
        result = self._weigh(input, weight)
        if mean is None or deviation is None:
            mean, deviation = self.bn.running_mean - self._bias(), running
        else:
            result = result * self._by_channel(running / deviation)
            mean = mean + (self._bias() - self._bias())  # 0, but every parameter gets a gradient
        return result + self._by_channel(self.bn.bias - self.bn.weight * mean / deviation)

    def _batch_statistics(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel of the layer without its bias, which the running ones take note of."""
        plain = self._weigh(input, self.weight)
        with torch.no_grad():
            self.bn(plain + self._by_channel(self._bias()))
        axes = [0, *range(2, plain.ndim)]
        mean = plain.mean(axes)
        spread = (plain - self._by_channel(mean)).square().mean(axes)
        return mean, torch.sqrt(spread + self.bn.eps)

    def _bias(self) -> Tensor:
        bias: Tensor = torch.zeros_like(self.bn.bias) if self.bias is None else self.bias
        return bias

    def _share(self, layer: Any, mod: Any) -> None:
        super()._share(layer, mod)
        norm = mod[1]
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            value = getattr(norm, name)
            if value is None:
                raise ArgumentError(
                    f"{type(self).__name__}: its batch norm has no {name}; it needs affine=True and "
                    "track_running_stats=True"
                )
            setattr(self.bn, name, value)

    def to_float(self) -> nn.Module:
        """The float layer with the batch norm folded by its running statistics; a ReLU is kept."""
        folded = fold_norm(self._float_layer().train(self.training), self.bn)
        return folded if self.with_relu is None else self.with_relu(folded, nn.ReLU()).train(self.training)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:
        if local_metadata.get("version", 1) < 2:
            for former, key in _FORMER_KEYS.items():
                if prefix + former in state_dict:
                    state_dict[prefix + key] = state_dict.pop(prefix + former)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def update_bn_stats(mod: nn.Module) -> None:
    """Let one fused module update its batch norm; for all of a model: `model.apply(update_bn_stats)`."""
    if isinstance(mod, WithNorm):
        mod.update_bn_stats()


def freeze_bn_stats(mod: nn.Module) -> None:
    """Fix the batch norm of one fused module; for all of a model: `model.apply(freeze_bn_stats)`."""
    if isinstance(mod, WithNorm):
        mod.freeze_bn_stats()
