"""Functions and methods of torch straight to the handler of the ATen operator that they are, by its schema.

The way through torch's dispatcher takes longer than most handlers, and its first use in a process makes torch import
what it has for distributed tensors, which takes a second.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qcore.tensor.compiled import outside_of_graphs
from qcore.tensor.dispatch import OPERATORS
from qcore.tensor.mistakes import hands_on
from qcore.tensor.moves import move, moved, moves_as_a_whole
from qcore.tensor.qtensor import QTensor

Run = Callable[[Sequence[Any], Mapping[str, Any]], Any]
"""What runs a call; NotImplemented where the values are for torch to read, which knows more forms of them."""

KEPT = 2048
"""Forms of calls, which are a function with the types of its arguments, whose way is known."""
_SIMPLE: dict[str, tuple[type, ...]] = {
    "IntType": (int,),
    "SymIntType": (int,),
    "FloatType": (float, int),
    "NumberType": (float, int),
    "BoolType": (bool,),
    "StringType": (str,),
    "TensorType": (QTensor, Tensor),
}
_SEQUENCES = (tuple, list, torch.Size)


@outside_of_graphs
def direct(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The call of a function on a QTensor by the handler of its operator, or NotImplemented."""
    if _called(function) is None:
        return NotImplemented
    options = tuple((name, type(value)) for name, value in kwargs.items()) if kwargs else ()
    run = _way(function, tuple(map(type, args)), options)
    return NotImplemented if run is None else run(args, kwargs)


@lru_cache(KEPT)
def _way(function: Any, kinds: tuple[type, ...], options: tuple[tuple[str, type], ...]) -> Run | None:
    """What runs calls of this form, if they are one overload of an ATen operator that has a handler."""
    if not kinds or kinds[0] is not QTensor:
        return None
    packet, names = _called(function)
    fitting = [form for each in _overloads(packet) if (form := _form(each, function, names, kinds, options))]
    if len(fitting) != 1:
        return None
    form = fitting[0]
    handler = OPERATORS.get(form.operator)
    if handler is move or (handler is None and moves_as_a_whole(form.operator)):
        return None if QTensor in (*kinds[1:], *dict(options).values()) else form.as_move(function)
    return None if handler is None else form.by(handler)


@lru_cache(KEPT)
def _called(function: Any) -> Any:
    """The operators of the same name, for a function of torch's own, and for one in Python the names of its parameters;
    None for other functions."""
    name = getattr(function, "__name__", "")
    packet = getattr(torch.ops.aten, name, None) if name and not name.startswith("_") else None
    known = isinstance(packet, torch._ops.OpOverloadPacket)
    if not known or function not in [getattr(home, name, None) for home in (Tensor, torch, torch._C._nn, F)]:
        return None
    return packet, list(inspect.signature(function).parameters)[1:] if inspect.isfunction(function) else None


def _overloads(packet: Any) -> Iterator[Any]:
    for name in packet.overloads():
        yield getattr(packet, name)


@dataclass(frozen=True)
class _Form:
    """How a call's values become an operator's arguments.

    `lists`: places and names of sequences of whole numbers; `repeated`: of one number for so many dimensions;
    `many`: the place from where on each value is an item of one sequence; `inplace`: where that flag is.
    """

    operator: Any
    lists: tuple[Any, ...]
    repeated: tuple[tuple[Any, int], ...]
    many: int | None
    inplace: Any

    def as_move(self, function: Any) -> Run:
        """By the same function on the integers: it moves elements and changes none."""
        operator, lists = self.operator, self.lists

        @hands_on
        def run(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            x = args[0]
            if x._held[0].axis is not None:
                return NotImplemented  # channels are followed by each operator that this is made of
            return moved(x, function(x.raw, *args[1:], **kwargs), operator)

        @hands_on
        def checked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            return run(args, kwargs) if _whole(args, kwargs, lists) else NotImplemented

        return checked if lists else run

    def by(self, handler: Callable[..., Any]) -> Run:
        """By a handler, which takes the schema's positional arguments as such."""
        operator, lists, many, inplace = self.operator, self.lists, self.many, self.inplace
        parameters = [each for each in operator._schema.arguments if not each.kwarg_only]
        values = [(each.name, each.default_value if each.has_default_value() else None) for each in parameters]
        place = {name: number for number, (name, _) in enumerate(values)}
        result = getattr(torch.return_types, operator._schema.name.partition("::")[2], None)
        result = result if len(operator._schema.returns) > 1 else None
        plain = not (lists or self.repeated or many or inplace is not None or result)

        def run(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            if plain and not kwargs:
                return handler(operator, *args)
            if not _whole(args, kwargs, lists):
                return NotImplemented
            given, rest = list(args), dict(kwargs)
            if inplace is not None and (rest.pop("inplace", False) or (len(given) > inplace and given.pop())):
                return NotImplemented
            if many is not None:
                given[many:] = [given[many:]]
            last = max([place[name] for name in rest if name in place], default=-1)
            for name, default in values[len(given) : last + 1]:
                given.append(rest.pop(name, default))
            for number, count in self.repeated:
                if number < len(given) and type(given[number]) is int:
                    given[number] = [given[number]] * count
            found = handler(operator, *given, **rest)
            return result(found) if result is not None else found

        return run


def _whole(args: Sequence[Any], kwargs: Mapping[str, Any], lists: Sequence[Any]) -> bool:
    """Whether sequences hold whole numbers alone."""
    for key in lists:
        for each in kwargs[key] if type(key) is str else args[key]:
            if type(each) is not int:
                return False
    return True


def _form(
    operator: Any,
    function: Any,
    names: list[str] | None,
    kinds: tuple[type, ...],
    options: tuple[tuple[str, type], ...],
) -> _Form | None:
    """How a call is one of this overload; None if it is not."""
    parameters = operator._schema.arguments
    ordered = [each for each in parameters if not each.kwarg_only]
    if not ordered or ordered[0].name != "self":
        return None
    inplace: Any = None
    given = dict(options)
    if names is not None:
        if names[-1:] == ["inplace"]:
            names, inplace = names[:-1], len(names)
            if given.pop("inplace", bool) is not bool or kinds[inplace:] not in ((), (bool,)):
                return None
            kinds = kinds[:inplace]
        if names != [each.name for each in parameters[1:]]:
            return None
    many = None
    method = function == getattr(Tensor, function.__name__, None)
    if method and len(ordered) == 2 and _is_sizes(ordered[1]) and set(kinds[1:]) == {int}:
        many, kinds = 1, (kinds[0], tuple)
    if len(kinds) > len(ordered):
        return None
    taken = [each.name for each in ordered[: len(kinds)]]
    pairs: list[tuple[Any, Any, type]] = list(zip(range(len(kinds)), ordered, kinds, strict=False))
    for each in parameters:
        if each.name in taken:
            continue
        if each.name in given:
            pairs.append((each.name, each, given.pop(each.name)))
        elif not each.has_default_value():
            return None
    if given or not all(_accepts(each.real_type, kind, each.N) for _, each, kind in pairs):
        return None
    lists = tuple(key for key, _, kind in pairs if kind in _SEQUENCES and key != many)
    places = {each.name: number for number, each in enumerate(ordered)}
    repeated = tuple((places[each.name], each.N) for _, each, kind in pairs if kind is int and each.N)
    return _Form(operator, lists, repeated, many, inplace)


def _is_sizes(parameter: Any) -> bool:
    kind = parameter.real_type
    return kind.kind() == "ListType" and kind.getElementType().kind() in ("IntType", "SymIntType")


def _accepts(kind: Any, given: type, count: int | None) -> bool:
    """Whether torch takes a value of a Python type for one of a schema's type; False for those not known here."""
    if kind.kind() == "OptionalType":
        return given is NoneType or _accepts(kind.getElementType(), given, count)
    if kind.kind() == "ListType":
        whole = kind.getElementType().kind() in ("IntType", "SymIntType")
        return whole and (given in _SEQUENCES or (given is int and count is not None))
    return given in _SIMPLE.get(kind.kind(), ())
