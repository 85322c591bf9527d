"""The weight of a quantized layer, for code that computes with the weight of the float one."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import torch
from torch.utils._pytree import tree_map


class LayerWeight:
    """`layer.weight`: called, it gives the quantized weight, as in torch; where a function of torch's takes it, or an
    attribute of a tensor is asked for, it stands for the float numbers that the integers mean."""

    def __init__(self, method: Callable[..., Any], layer: Any) -> None:
        self._method = method
        self._layer = layer

    def __call__(self) -> Any:
        """The quantized weight."""
        return self._method(self._layer)

    def _numbers(self) -> torch.Tensor:
        weight = self()
        return weight.dequantize() if hasattr(weight, "qparams") else weight  # type: ignore[no-any-return]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def plain(value: Any) -> Any:
            return value._numbers() if isinstance(value, LayerWeight) else value

        return func(*tree_map(plain, args), **tree_map(plain, kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._numbers(), name)

    def __getitem__(self, index: Any) -> Any:
        return self._numbers()[index]

    def __len__(self) -> int:
        return len(self._numbers())

    def __repr__(self) -> str:
        return f"the weight of {self._layer!r}"


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *others: getattr(self._numbers(), name)(*others)


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "matmul", "rmatmul", "neg", "pow"):
    setattr(LayerWeight, f"__{_name}__", _operator(f"__{_name}__"))


class weight_of:
    """A method that gives a layer's weight, as an attribute that is a LayerWeight."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        update_wrapper(self, method)  # type: ignore[arg-type]

    def __get__(self, layer: Any, owner: Any) -> Any:
        return self if layer is None else LayerWeight(self._method, layer)
