"""Weights and biases of quantized layers, which are read by a call, to code that reads them as the float layer's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from torch import Tensor
from torch.utils._pytree import tree_map

from qcore.tensor.qtensor import QTensor

T = TypeVar("T")


class held(Generic[T]):
    """Decorator of a method that gives a weight or a bias: the attribute serves as the float layer's, too."""

    def __init__(self, method: Callable[[Any], T]) -> None:
        self.__wrapped__ = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, module: None, owner: Any = None) -> Callable[[Any], T]: ...
    @overload
    def __get__(self, module: Any, owner: Any = None) -> Callable[[], T]: ...
    def __get__(self, module: Any, owner: Any = None) -> Callable[..., T]:
        return self.__wrapped__ if module is None else Held(self.__wrapped__, module)


class Held:
    """A weight, or a bias, of one layer: called, it gives the tensor, as in torch.

    Where a function of torch's takes it, or an attribute of a tensor is asked for, it stands for the numbers that the
    integers mean, in the float layer's dtype. Raises AttributeError, naming the layer, where the layer has none.
    """

    def __init__(self, method: Callable[[Any], Any], module: Any) -> None:
        self.__func__, self.__self__ = method, module
        self.__name__, self.__doc__ = method.__name__, method.__doc__

    def __call__(self) -> Any:
        return self.__func__(self.__self__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    @property
    def dtype(self) -> Any:
        """That of the float layer's."""
        return self.__self__.float_dtype

    def _numbers(self) -> Tensor | None:
        found = self()
        if found is None:
            return None
        return (found.dequantize() if isinstance(found, QTensor) else found.detach()).to(self.dtype)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def plain(value: Any) -> Any:
            return value._numbers() if isinstance(value, Held) else value

        return func(*tree_map(plain, args), **tree_map(plain, kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        numbers = self._numbers()
        if numbers is None:
            raise AttributeError(f"{self.__self__._label()} has no {self.__name__}, whose {name!r} is asked for")
        return getattr(numbers, name)


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *others: getattr(self._numbers(), name)(*others)


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "matmul", "rmatmul", "neg", "pow", "getitem"):
    setattr(Held, f"__{_name}__", _operator(f"__{_name}__"))
