"""Layers without a quantized form, seen in calibration: do they work on integers, and where do their results lie."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from qcore.errors import QuantizationError
from qcore.tensor.dtypes import quint8
from qcore.tensor.entering import on_the_cpu
from qcore.tensor.functions import quantize
from qcore.tensor.qparams import per_tensor
from qcore.tensor.qtensor import QTensor


class Watch(nn.Module):
    """What sees the calls of one layer: the first decides, on a copy, whether integers may go through it as they are.

    `works`: what was found; None before a call with floats. `observers`: one for each tensor of its results, where it
    does not; an Identity for one that no range holds. `probes`: whether to try at all.
    """

    def __init__(self, qconfig: Any, path: str, probes: bool = True) -> None:
        super().__init__()
        self.make = qconfig.activation
        self.qcore_path = path
        self.qcore_backend: str | None = None
        self.works: bool | None = None if probes else False
        self.observers = nn.ModuleList()

    @on_the_cpu()
    def see(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A call of the layer, and what it gave."""
        if self.works is None and any(map(_is_float, tree_leaves((args, kwargs)))):
            self.works = _works_on_integers(layer, args, kwargs, result)
        if self.works is not False:
            return
        floats = [x for x in tree_leaves(result) if _is_float(x)]
        while len(self.observers) < len(floats):
            self.observers.append(self._observer())
        for n, x in enumerate(floats):
            try:
                self.observers[n](x)
            except QuantizationError:
                self.observers[n] = nn.Identity()  # NaN or infinity: no range holds it

    def _observer(self) -> nn.Module:
        made: Any = self.make()
        made = getattr(made, "activation_post_process", made)  # training must not round what inference may leave float
        made.qcore_path, made.qcore_backend = self.qcore_path, self.qcore_backend
        made.train(self.training)
        return made  # type: ignore[no-any-return]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        found = {
            key.removeprefix(f"{prefix}observers.").partition(".")[0] for key in state_dict if key.startswith(prefix)
        }
        while len(self.observers) < len(found):
            self.observers.append(self._observer())
            self.works = False
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, QTensor) and x.is_floating_point()


def _works_on_integers(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Whether a layer, given the integers of its arguments, gives what it gave for floats; nothing is changed by it."""
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        try:
            given, named = tree_map(_rounded, (args, kwargs))
            found = tree_leaves(_stand_in(layer).forward(*given, **named))
            wanted = tree_leaves(result)
            return len(found) == len(wanted) and (layer.training or all(map(_is_near, wanted, found)))
        except Exception:  # whatever the layer's code makes of a tensor without arithmetic
            return False


def _rounded(x: Any) -> Any:
    if not _is_float(x):
        return x
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    return quantize(x.detach().float(), per_tensor(scale, round(-low / scale), quint8))


def _stand_in(layer: nn.Module) -> nn.Module:
    """The layer for one call, in eval mode: what the call does to buffers, lists and dicts stays with it."""
    same = type(layer).__new__(type(layer))
    vars(same).update({name: _apart(value) for name, value in vars(layer).items()})
    same._buffers = {name: None if each is None else each.clone() for name, each in layer._buffers.items()}
    same.training = False
    return same


def _apart(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, list | dict | set) else value


_LEAST = 0.1
"""How far, beside their size, results may lie from those of floats: 20 dB below, which 8 bits hold with ease."""


def _is_near(wanted: Any, found: Any) -> bool:
    if not isinstance(wanted, Tensor) or not isinstance(found, Tensor):
        return isinstance(wanted, Tensor) == isinstance(found, Tensor)
    if wanted.shape != found.shape:
        return False
    if not _is_float(wanted):
        return True
    numbers = found.dequantize() if isinstance(found, QTensor) else found
    return bool((wanted - numbers).norm() <= _LEAST * wanted.norm() + 1e-6)
