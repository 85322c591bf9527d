"""state: what a model holds, kept while it is traced or run on examples, so that it is afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qcore.nn.quantized.base import QuantizedModule


class State:
    """The attributes and buffers of a float model's modules, and torch's random numbers, as they are now."""

    def __init__(self, model: nn.Module) -> None:
        modules = [(path, each) for path, each in model.named_modules() if not isinstance(each, QuantizedModule)]
        self._attributes = [
            (path, each, {key: _kept(value) for key, value in vars(each).items()}) for path, each in modules
        ]
        self._buffers = [
            (path, name, each, each.detach().clone())
            for path, module in modules
            for name, each in module._buffers.items()
            if each is not None and each.layout is torch.strided and not each.is_meta
        ]
        self._random = torch.get_rng_state()

    def attributes(self) -> Iterator[tuple[str, str, Any, Any]]:
        """Path, name, former and present value of attributes that are others now."""
        for path, module, kept in self._attributes:
            now = vars(module)
            for name in dict.fromkeys((*kept, *now)):
                before, after = kept.get(name, (_ABSENT, None))[0], now.get(name, _ABSENT)
                if not _equal(before, after) or (after is before and not _equal(kept[name][1], _kept(after)[1])):
                    yield path, name, before, after

    def buffers(self) -> dict[tuple[str, str], Tensor]:
        """The buffers that were written to, by path and name, as they are now."""
        return {
            (path, name): now.clone()
            for path, name, now, before in self._buffers
            if not torch.equal(now.nan_to_num(), before.nan_to_num())
        }

    def restore(self) -> None:
        """Make all of it as it was."""
        for _, module, kept in self._attributes:
            now = vars(module)
            for name in [name for name in now if name not in kept]:
                del now[name]
            for name, (value, items) in kept.items():
                now[name] = value
                if items is None:
                    continue
                value.clear()
                if isinstance(value, list):
                    value.extend(items)
                else:
                    value.update(items)
        with torch.no_grad():
            for _, _, tensor, before in self._buffers:
                if not tensor.is_inference() or torch.is_inference_mode_enabled():
                    tensor.copy_(before)
        torch.set_rng_state(self._random)


_ABSENT = object()


def _kept(value: Any) -> tuple[Any, Any]:
    """A value, and, of a container that can change, its items."""
    return value, value.copy() if type(value) in (list, dict, set) else None


def _equal(before: Any, after: Any) -> bool:
    """Whether a value is what it was: tensors, and what stands for them, only by identity."""
    if before is after:
        return True
    if type(before) is not type(after):
        return False
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_equal, before, after))
    if isinstance(before, dict):
        return list(before) == list(after) and all(map(_equal, before.values(), after.values()))
    if isinstance(before, set):
        return {id(each) for each in before} == {id(each) for each in after} or before == after
    return isinstance(before, bool | int | float | str) and before == after
