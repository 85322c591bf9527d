"""Weights that are made anew at each call, by torch's hooks (pruning, weight norm, spectral norm) or parametrizations.

Quantized layers hold what these make of them, as it is when the layer is quantized.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from qcore.errors import QcoreError, QuantizationError
from qcore.tensor.arguments import check_module

ModuleT = TypeVar("ModuleT", bound=nn.Module)
MAKERS = (BasePruningMethod, WeightNorm, SpectralNorm)
"""Forward pre-hooks of torch that set a weight."""


def made(layer: nn.Module) -> list[str]:
    """Names of the tensors of a layer that hooks or parametrizations make."""
    names = [str(getattr(hook, "_tensor_name", None) or hook.name) for hook in _makers(layer)]
    names += list(layer.parametrizations) if parametrize.is_parametrized(layer) else []  # type: ignore[arg-type]
    return names


def _makers(layer: nn.Module) -> list[Any]:
    return [hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, MAKERS)]


def settled(layer: ModuleT) -> ModuleT:
    """The layer, or, where its weights are made, a copy that holds them as parameters; parts of fused ones alike.

    Raises QuantizationError, naming the layer, for a weight that hooks of the user's set.
    """
    check_module("quantization of a layer", layer)
    if any(made(part) for part in layer.modules()):
        layer = copied(layer)
        settle(layer)
    for part in layer.modules():
        foreign = [name for name in ("weight", "bias") if isinstance(vars(part).get(name), Tensor)]
        if foreign and part._forward_pre_hooks:
            path = getattr(layer, "qcore_path", "")
            raise QuantizationError(
                f"{f'module {path!r}' if path else 'a module'} ({type(part).__name__}): its {foreign[0]} is no "
                "parameter but set by a forward pre-hook, which a quantized layer cannot follow; remove the hook, and "
                "make the tensor a parameter"
            )
    return layer


def settle(model: nn.Module) -> None:
    """Make parameters of all weights of a model that hooks and parametrizations make, in place."""
    for module in list(model.modules()):
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, MAKERS):
                hook.remove(module)
                del module._forward_pre_hooks[key]
        if parametrize.is_parametrized(module):
            _settle_parametrized(module)


def _settle_parametrized(module: Any) -> None:
    """Without torch's remove_parametrizations, which takes the weight from the class that copies share."""
    module.parametrizations.eval()
    values = {str(name): getattr(module, name).detach().clone() for name in module.parametrizations}
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value, value.is_floating_point()))


def check_plain(model: nn.Module, what: str, path: str = "") -> None:
    """QuantizationError, naming the layer, where a weight is made: `what` would train the result, not what makes it."""
    for inner, module in model.named_modules(prefix=path):
        names = made(module)
        if names:
            raise QuantizationError(
                f"{what}: the {names[0]} of module {inner!r} ({type(module).__name__}) is made at each call, by "
                "pruning, a norm or another parametrization, which training with rounded weights would not see; make "
                "it a parameter first, by torch.nn.utils.prune.remove, remove_weight_norm, remove_spectral_norm or "
                "parametrize.remove_parametrizations"
            )


def check_initialized(path: str, module: nn.Module) -> None:
    """QuantizationError, naming it, for a lazy module whose sizes are not known yet."""
    values = (*module._parameters.values(), *module._buffers.values())
    if any(value is not None and is_lazy(value) for value in values):
        raise QuantizationError(
            f"module {path!r} ({type(module).__name__}) has no weights yet, as its sizes come from its first input; "
            "call the model once on an example before quantizing it"
        )


def copied(model: ModuleT) -> ModuleT:
    """A deep copy, of weights that hooks have made too, which torch refuses to copy as they hang on others.

    Raises ArgumentTypeError for what is no module.
    """
    check_module("quantization", model)
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            for each in value if isinstance(value, list | tuple) else (value,):
                if isinstance(each, Tensor) and not each.is_leaf:
                    memo[id(each)] = each.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except QcoreError:
        raise
    except Exception as error:
        raise QuantizationError(
            f"this {type(model).__name__} cannot be copied ({type(error).__name__}: {error}); quantize it in place, "
            "with inplace=True, or keep what cannot be copied out of the model"
        ) from error
