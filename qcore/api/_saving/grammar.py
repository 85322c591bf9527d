"""The grammar of a file's header, whole and in one place: each field, and what may stand in it.

A header is checked against it before anything is built, so that all who read it later can rely on types, names and
bounds. No string of a file ever becomes source or an attribute without being a name as `is_name` or `is_part` have it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias, get_args

from qcore.errors import ArgumentError
from qcore.fx.callables import methods
from qcore.fx.graph_module import RESERVED
from qcore.fx.names import is_name, is_part, is_path
from qcore.report import Outcome

Where: TypeAlias = "tuple[Where | None, str | int]"
"""A place of the header: the place that holds it, and its name there; put into words only for an error."""

Check = Callable[[Any, Where], None]
"""Raises ArgumentError for a value that must not stand at a place of the header."""

_DEPTH = 64
_LONG = 2**16
_MANY = 2**20
MOST_PLACES = 2**15
"""Of modules in a model: each takes a fraction of a millisecond to make."""
_SHOWN = 60


def parsed(text: str) -> Any:
    """The JSON of a header, not nested deeper than one is; ArgumentError for other text, and for names given twice."""
    try:
        header = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"its header is corrupt: {str(error)[:200]}") from error
    level = [header] if isinstance(header, dict | list) else []
    for _ in range(_DEPTH):
        inside = [value.values() if type(value) is dict else value for value in level]
        level = [each for held in inside for each in held if type(each) is dict or type(each) is list]
        if not level:
            return header
    raise ArgumentError(f"its header is corrupt: nested deeper than {_DEPTH}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two values of one name")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def is_attribute(name: object) -> bool:
    """Whether a string may name an attribute of the user's on a graph module: nothing that modules or qcore have."""
    return is_name(name) and name not in RESERVED and not str(name).startswith(("_", "qcore"))


# --- how checks are made ----------------------------------------------------------------------------------------------


def _words(where: Where) -> str:
    above, name = where
    if above is None:
        return str(name)
    inner = f".{name}" if is_name(name) else f"[{str(name)[:_SHOWN]!r}]" if isinstance(name, str) else f"[{name}]"
    return _words(above) + inner


def _wrong(value: Any, where: Where, wanted: str) -> NoReturn:
    shown = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    raise ArgumentError(f"its header is corrupt: {_words(where)} is {shown[:_SHOWN]}; it must be {wanted}")


def _that(holds: Callable[[Any], bool], wanted: str) -> Check:
    def check(value: Any, where: Where) -> None:
        if not holds(value):
            _wrong(value, where, wanted)

    return check


def _either(*choices: Any) -> Check:
    return _that(lambda value: any(type(value) is type(each) and value == each for each in choices), f"in {choices}")


def _whole(low: int, high: int) -> Check:
    return _that(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def _list(of: Check, least: int = 0, most: int = _MANY) -> Check:
    def check(value: Any, where: Where) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            _wrong(value, where, f"a list of {least} to {most}")
        for index, each in enumerate(value):
            of(each, (where, index))

    return check


def _row(*columns: Check) -> Check:
    def check(value: Any, where: Where) -> None:
        if not isinstance(value, list) or len(value) != len(columns):
            _wrong(value, where, f"a list of {len(columns)}")
        for index, (each, column) in enumerate(zip(value, columns, strict=True)):
            column(each, (where, index))

    return check


def _map(key: Check, of: Check) -> Check:
    def check(value: Any, where: Where) -> None:
        if not isinstance(value, dict) or len(value) > _MANY:
            _wrong(value, where, "an object")
        for name, each in value.items():
            key(name, (where, name))
            of(each, (where, name))

    return check


def _fields(needed: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    known = {**needed, **(others or {})}

    def check(value: Any, where: Where) -> None:
        if not isinstance(value, dict):
            _wrong(value, where, "an object")
        for name in needed:
            if name not in value:
                raise ArgumentError(f"its header is corrupt: {_words(where)} has no {name!r}")
        for name, each in value.items():
            if name not in known:
                shown = f"{_words(where)} has {name[:_SHOWN]!r}"
                raise ArgumentError(f"its header is corrupt: {shown}, which means nothing there")
            known[name](each, (where, name))

    return check


def _is_text(value: str) -> bool:
    """Whether a string can be printed and written: halves of surrogate pairs cannot."""
    return len(value) < _LONG and (value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value))


# --- values -----------------------------------------------------------------------------------------------------------

TEXT = _that(lambda value: isinstance(value, str) and _is_text(value), f"a string of Unicode shorter than {_LONG}")
FLAG = _that(lambda value: isinstance(value, bool), "true or false")
NAME = _that(is_name, "an identifier of ASCII letters that is no keyword")
PART = _that(is_part, "a name without quotes, dots or backslashes")
PATH = _that(lambda value: value == "" or is_path(value), "the path of a module")
_FINITE = _that(lambda value: isinstance(value, float) and math.isfinite(value), "a finite number")
_INT64 = _whole(-(2**63), 2**63 - 1)
_SIZE = _whole(0, 2**40)


_INTEGER = re.compile("-?0x[0-9a-f]{16,1000}")
_BYTES = re.compile("([0-9a-f]{2})*")
_STEP = _that(lambda value: type(value) is int and 0 < abs(value) < 2**63, "a whole number other than 0")

_SCALARS: dict[type, Check] = {int: _INT64, float: _FINITE, str: TEXT}


def _value(kinds: Mapping[str, Check]) -> Check:
    """JSON's own values, and objects of one of the kinds, by their first name."""

    def check(value: Any, where: Where) -> None:
        scalar = _SCALARS.get(type(value))
        kind = str(next(iter(value), "")) if isinstance(value, dict) else ""
        if scalar is not None:
            scalar(value, where)
        elif kind in kinds:
            kinds[kind](value, where)
        elif value is not None and not isinstance(value, bool):
            _wrong(value, where, f"a number, a string, or an object of {', '.join(kinds)}")

    return check


def _kind(name: str, of: Check, **more: Check) -> dict[str, Check]:
    return {name: _fields({name: of, **more})}


_EXTREME = _kind("float", _either("inf", "-inf", "nan"))


def _is_all(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _containers(of: Check, key: Check) -> dict[str, Check]:
    pair = _row(_value({}), of)
    return {
        **_EXTREME,
        **_kind("tuple", _list(of)),
        **_kind("list", _list(of)),
        **_kind("dict", _map(key, of)),
        **_kind("items", _list(pair)),
        **_kind("ordered", _list(_fields({"list": _row(TEXT, of)}))),
        **_kind("complex", _row(_FINITE, _FINITE)),  # as Python writes no other in code
        **_kind("slice", _row(of, of, of)),
        **_kind("range", _row(_INT64, _INT64, _STEP)),
        **_kind("size", _list(_INT64)),
        **_kind("bytes", _that(lambda value: _is_all(_BYTES, value), "pairs of hexadecimal digits")),
        **_kind("integer", _that(lambda value: _is_all(_INTEGER, value), "a hexadecimal number beyond 64 bits")),
        **_kind("ellipsis", _either(True)),
        **_kind("torch", TEXT),
        **_kind("device", _either("cpu")),
    }


def _recursive(kinds_of: Callable[[Check], Mapping[str, Check]]) -> Check:
    """Values of kinds that may hold such values themselves: `kinds_of(check)` are these kinds."""
    known: dict[str, Check] = {}
    check = _value(known)
    known.update(kinds_of(check))
    return check


PLAIN = _recursive(lambda of: _containers(of, TEXT))
"""Numbers, strings, dtypes, and tuples, lists, dicts and slices of them."""


def _arguments(of: Check) -> dict[str, Check]:
    kinds = {**_containers(of, TEXT), **_kind("node", NAME)}
    del kinds["range"]  # which calls would go over, however long it is
    return kinds


ARGUMENT = _recursive(_arguments)
"""What a node of a graph is called with: plain values, and the results of nodes."""

_AXIS = _that(lambda value: value is None or (type(value) is int and 0 <= value < 64), "null or an axis")


def _values(of: Check) -> dict[str, Check]:
    qparams = _fields({"dtype": TEXT, "scale": of, "zero_point": of, "axis": _AXIS})
    return {
        **_containers(of, TEXT),
        **_kind("tensor", TEXT),
        **_kind("integers", TEXT, shape=_list(_SIZE, 0, 64), qparams=qparams),
        **_kind("dtype", TEXT),
        **_kind("qparams", qparams),
        **_kind("operator", TEXT, settings=_fields({"dict": _map(NAME, of)})),
    }


VALUE = _recursive(_values)
"""Plain values, tensors, quantization parameters and operators."""


# --- the header -------------------------------------------------------------------------------------------------------


def _node(value: Any, where: Where) -> None:
    _NODE(value, where)
    op, target = value["op"], value["target"]
    fits = {
        "placeholder": is_name,
        "output": "output".__eq__,
        "get_attr": is_path,
        "call_module": is_path,
        "call_method": methods().__contains__,
        "call_function": str.isprintable,  # on the list, or allowed by the caller, as graphs.check_calls sees to
    }[op]
    if not fits(target):
        shown = f"{_words(where)} is {op!r} of {target[:_SHOWN]!r}"
        raise ArgumentError(f"its graph has a node that is not on the list of what it may call: {shown}")


_NODE = _fields(
    {
        "name": NAME,
        "op": _either("placeholder", "get_attr", "call_function", "call_method", "call_module", "output"),
        "target": TEXT,
        "args": _fields({"tuple": _list(ARGUMENT)}),
        "kwargs": _fields({"dict": _map(NAME, ARGUMENT)}),
    },
    {"float": _either(True), "cast": _either(True)},
)

_POSITIONS = _fields({"tuple": _list(_whole(0, 10**6))})
_FIXED = _fields({"tuple": _list(_fields({"tuple": _row(_whole(0, 10**6), NAME, PLAIN)}))})
_OWN_NOTES = {
    "qcore_quantized_inputs": _POSITIONS,
    "qcore_quantized_outputs": _POSITIONS,
    "qcore_fixed": _FIXED,
    "qcore_layer": _either("layer"),
    "qcore_preserved": _fields({"tuple": _list(_that(is_attribute, "the name of an attribute"))}),
}


def _notes(value: Any, where: Where) -> None:
    """What is noted on a graph: of qcore's, by name, and attributes that the user wants preserved."""
    _fields({"dict": _map(TEXT, lambda *_: None)})(value, where)
    for name, each in value["dict"].items():
        if name not in _OWN_NOTES and not is_attribute(name):
            raise ArgumentError(
                f"its header is corrupt: {_words(where)} names {name[:_SHOWN]!r}, which is no attribute of a user's"
            )
        _OWN_NOTES.get(name, VALUE)(each, (where, name))


_SAME = _fields({"path": PATH, "same_as": PATH})
_MODULE = _fields(
    {"path": PATH, "class": TEXT, "training": FLAG},
    {
        "arguments": _fields({"dict": _map(NAME, VALUE)}),
        "attributes": _map(NAME, VALUE),
        "tensors": _map(PART, _either("parameter", "buffer")),
        "buffers": _map(PART, VALUE),
        "frozen": _list(PART),
        "graph": _list(_node, 1),
        "compiled": FLAG,
        "example": _list(_row(_list(_SIZE, 0, 64), _fields({"torch": TEXT})), 0, 1000),
        "notes": _notes,
        "constants": _fields({"dict": _map(PATH, VALUE)}),
    },
)

_REPORT_ROW = _row(TEXT, TEXT, _either(*get_args(Outcome)), TEXT, TEXT, TEXT, TEXT, FLAG)

_HEADER = _fields(
    {
        "schema": _whole(1, 10**6),
        "backend": TEXT,
        "why_backend": TEXT,
        "report": _list(_REPORT_ROW),
        "modules": _list(
            lambda value, where: (_SAME if isinstance(value, dict) and "same_as" in value else _MODULE)(value, where),
            most=MOST_PLACES,
        ),
        "state": _map(PATH, VALUE),
        "options": _map(PATH, VALUE),
        "versions": _map(PATH, _that(lambda value: value is None or type(value) is int, "null or a number")),
    },
    {"tied": _list(_list(PATH, 2))},
)


def check(header: Any) -> None:
    """ArgumentError, naming the field, for a header that this is not the grammar of."""
    _HEADER(header, (None, "the header"))
