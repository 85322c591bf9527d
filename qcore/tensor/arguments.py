"""Checks of what users give as arguments: each names the argument, what was given and what is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import zip_longest
from operator import index
from typing import Any, TypeVar

from torch import Tensor, nn

from qcore.errors import ArgumentError, ArgumentTypeError, QcoreError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
OF_ARGUMENTS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""What Python and torch raise for arguments that they cannot use."""


def check_module(name: str, model: Any) -> None:
    """ArgumentTypeError for anything but a module; `name`: what was called."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"{name}: the model must be a torch.nn.Module, not {type(model).__name__}")


def check_callable(**functions: Any) -> None:
    """ArgumentTypeError for what cannot be called."""
    for name, function in functions.items():
        if not callable(function):
            raise ArgumentTypeError(f"{name}={function!r} must be a function, or a class")


def check_type(where: str, kind: type | tuple[type, ...], **values: Any) -> None:
    """ArgumentTypeError for what is not of a class; `where`: what was called."""
    for name, value in values.items():
        if not isinstance(value, kind):
            allowed = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
            raise ArgumentTypeError(f"{where}: {name} must be a {allowed}, not {type(value).__name__}")


def check_key(where: str, **values: Any) -> None:
    """ArgumentTypeError for what cannot be the key of a rule, as lists and tensors cannot."""
    for name, value in values.items():
        try:
            hash(value)
        except TypeError as error:
            raise ArgumentTypeError(f"{where}: {name} cannot be the key of a rule: {error}") from None


def check_flag(**values: Any) -> None:
    """ArgumentTypeError for what is neither True nor False, nor 0 or 1."""
    for name, value in values.items():
        if not isinstance(value, bool) and not (isinstance(value, int) and value in (0, 1)):
            raise ArgumentTypeError(f"{name} must be True or False, not {type(value).__name__}")


def takes_dict_form(function: FunctionT) -> FunctionT:
    """For class methods `from_dict(cls, form)`: ArgumentTypeError, with what is wrong, for what has not that form."""

    @wraps(function)
    def checked(cls: Any, *args: Any, **kwargs: Any) -> Any:
        where = f"{cls.__name__}.{function.__name__}"
        for form in (*args, *kwargs.values()):
            check_type(where, Mapping, form=form)
        try:
            return function(cls, *args, **kwargs)
        except QcoreError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise ArgumentTypeError(f"{where}: the dict has not the form that to_dict() gives: {error}") from error

    return checked  # type: ignore[return-value]


def names_arguments(function: FunctionT, kinds: tuple[type[Exception], ...] = OF_ARGUMENTS) -> FunctionT:
    """For methods and constructors whose arguments Python and torch read: their errors as ArgumentTypeError or
    ArgumentError that names the call, and what was given; `kinds`: the classes of these errors."""

    @wraps(function)
    def called(owner: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(owner, *args, **kwargs)
        except QcoreError:
            raise
        except kinds as error:
            name = (owner if isinstance(owner, type) else type(owner)).__name__
            name += "" if function.__name__ == "__init__" else f".{function.__name__}"
            raise impossible(name, args, kwargs, error) from error

    return called  # type: ignore[return-value]


def impossible(name: str, args: Iterable[Any], kwargs: Mapping[str, Any], error: Exception) -> QcoreError:
    """What to raise for a call whose arguments brought an error of Python's or torch's."""
    given = ", ".join([*map(_shown, args), *(f"{key}={_shown(value)}" for key, value in kwargs.items())])
    raised = ArgumentTypeError if isinstance(error, TypeError | AttributeError) else ArgumentError
    return raised(f"{name}({given}) is not possible: {error or type(error).__name__}")


def name_arguments_of(owner: type, names: Iterable[str], kinds: tuple[type[Exception], ...] = OF_ARGUMENTS) -> None:
    """`names_arguments` for those of these methods, and class methods, that a class itself has."""
    for name in names:
        value = vars(owner).get(name)
        if isinstance(value, classmethod):
            setattr(owner, name, classmethod(names_arguments(value.__func__, kinds)))
        elif value is not None:
            setattr(owner, name, names_arguments(value, kinds))


def _shown(value: Any) -> str:
    """An argument in a message, short."""
    if isinstance(value, Tensor):
        return f"a {type(value).__name__} of {value.dtype}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_path(where: str, path: Any) -> None:
    """ArgumentTypeError for what names no file."""
    check_type(where, (str, os.PathLike), path=path)
    try:
        is_name = b"\0" not in os.fsencode(path)
    except (UnicodeError, TypeError):
        is_name = False
    if not is_name:
        raise ArgumentError(f"{where}: path={path!r} has characters that names of files cannot have")


def check_whole(least: int | None = None, most: int | None = None, /, **values: Any) -> None:
    """Whole numbers in [least, most]; ArgumentTypeError for anything else, ArgumentError for other numbers."""
    for name, value in values.items():
        try:
            number = None if isinstance(value, bool | Tensor) else index(value)
        except TypeError:
            number = None
        if number is None:
            raise ArgumentTypeError(f"{name}={value!r} must be a whole number")
        if least is not None and number < least:
            raise ArgumentError(f"{name}={value!r} must be at least {least}")
        if most is not None and number > most:
            raise ArgumentError(f"{name}={value!r} must be at most {most}")


def check_number(least: float = -math.inf, most: float = math.inf, **values: Any) -> None:
    """Finite numbers in [least, most]; ArgumentTypeError for anything else, ArgumentError for other numbers."""
    for name, value in values.items():
        try:
            number = None if isinstance(value, bool | str) else float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError, RuntimeError):
            number = None
        if number is None:
            raise ArgumentTypeError(f"{name}={value!r} must be a number")
        if not (math.isfinite(number) and least <= number <= most):
            raise ArgumentError(f"{name}={value!r} must be a finite number in [{least:g}, {most:g}]")


def check_broadcast(name: str, a: Sequence[int], b: Sequence[int]) -> None:
    """ArgumentError for shapes that do not broadcast."""
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=1)
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        raise ArgumentError(f"{name}: shapes {tuple(a)} and {tuple(b)} do not broadcast")


def check_cat(name: str, shapes: Sequence[Sequence[int]], dim: Any) -> None:
    """ArgumentError for a dimension that is not there, or shapes that differ in another one."""
    check_whole(dim=dim)
    rank = len(shapes[0])
    if not -rank <= dim < rank:
        raise ArgumentError(f"{name}: dim={dim} does not exist in a tensor of shape {tuple(shapes[0])}")
    others = [(*shape[: dim % rank], *shape[dim % rank + 1 :]) for shape in shapes]
    if any(len(shape) != rank for shape in shapes) or len(set(others)) > 1:
        raise ArgumentError(f"{name}: shapes {', '.join(map(str, map(tuple, shapes)))} differ in more than dim={dim}")
