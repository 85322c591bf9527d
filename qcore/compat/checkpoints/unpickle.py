"""Read a pickle without running anything: a machine for the few opcodes that torch writes, and a closed list of names.

Names stand for constructors of ours (`Constructor`), for values, or for objects that are only noted (`Stored`).
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, BinaryIO

from qcore.errors import ArgumentError

_MARK = object()
_MOST = 10**7
"""How many values a pickle may make, those within others counted wherever they are."""


@dataclass(frozen=True)
class Constructor:
    """A function of ours that stands for one that the file names; it gets what the file has as arguments.

    `needs_data`: whether it looks at the elements of tensors.
    """

    function: Callable[..., Any]
    needs_data: bool = False


@dataclass(frozen=True)
class StoredClass:
    """A class that the file names; its objects are noted, not made."""

    name: str


@dataclass(eq=False)
class Stored:
    """An object in a file: the name of its class, and its state."""

    name: str
    state: Any = None


Resolve = Callable[[str, str], Any]
Persistent = Callable[[Any], Any]


def unpickle(file: BinaryIO, resolve: Resolve, persistent: Persistent) -> Any:
    """The object of one pickle, from a file that is left where the pickle ends.

    `resolve(module, name)` gives what a name stands for and raises for those not on its list; `persistent` gives what
    a reference to a storage stands for. Raises ArgumentError for what is no pickle, or one with other opcodes.
    """
    machine = _Machine(resolve, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name != "STOP":
                machine.step(opcode.name, argument)
        found = machine.pop()
        machine.take(found)
        return found
    except ArgumentError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError) as error:
        raise ArgumentError(f"its pickle is truncated or corrupt ({type(error).__name__}: {error})") from error


class _Machine:
    def __init__(self, resolve: Resolve, persistent: Persistent) -> None:
        self.resolve = resolve
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = _MOST

    def take(self, value: Any) -> None:
        """Count what a value holds, as often as it holds it; ArgumentError where that, with all before, is too much:
        a short pickle can name one list so often that nobody could go through it. Objects may hold themselves, as the
        nodes of a graph do, and are gone into once."""
        pending, entered = [value], set()
        while pending:
            self.left -= 1
            if self.left < 0:
                raise ArgumentError(f"its pickle makes more than {_MOST} values, or one that holds itself")
            value = pending.pop()
            if isinstance(value, tuple | list | set):
                pending.extend(value)
            elif isinstance(value, dict):
                pending.extend(value.values())
            elif isinstance(value, Stored) and id(value) not in entered:
                entered.add(id(value))
                pending.append(value.state)

    def step(self, name: str, argument: Any) -> None:
        """Run one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _IGNORED:
            raise ArgumentError(f"its pickle uses the opcode {name}, which torch does not write; nothing was run")

    def pop(self) -> Any:
        """The topmost value."""
        value = self.stack.pop()
        if value is _MARK:
            raise ArgumentError("its pickle is corrupt (a mark where a value should be)")
        return value

    def top(self, kind: type, opcode: str) -> Any:
        """The topmost value, left where it is, which must be of a kind."""
        if not isinstance(self.stack[-1], kind):
            raise ArgumentError(f"its pickle is corrupt ({opcode} on a {type(self.stack[-1]).__name__})")
        return self.stack[-1]

    def since_mark(self, _: Any = None) -> list[Any]:
        """All values above the topmost mark."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def put(self, key: int) -> None:
        """Note the topmost value."""
        self.memo[key] = self.stack[-1]

    def get(self, key: int) -> None:
        """Push a value noted before."""
        self.stack.append(self.memo[key])

    def named(self, argument: str) -> None:
        """GLOBAL: module and name in one text."""
        module, _, name = argument.partition(" ")
        self.stack.append(self.resolve(module, name))

    def named_on_stack(self, _: Any) -> None:
        """STACK_GLOBAL: module and name are on the stack."""
        name, module = self.pop(), self.pop()
        self.stack.append(self.resolve(str(module), str(name)))

    def call(self, _: Any) -> None:
        """REDUCE: only constructors of ours are called."""
        arguments, target = self.pop(), self.pop()
        if not isinstance(target, Constructor) or not isinstance(arguments, tuple):
            raise ArgumentError(f"its pickle calls {_shown(target)}, which is no constructor; nothing was run")
        self.take(arguments)
        self.stack.append(target.function(*arguments))

    def new(self, _: Any) -> None:
        """NEWOBJ: the object is noted."""
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, StoredClass) or arguments != ():
            raise ArgumentError(f"its pickle makes an object of {_shown(kind)} with arguments; nothing was run")
        self.stack.append(Stored(kind.name))

    def build(self, _: Any) -> None:
        """BUILD: the state of a noted object, or the attributes of an ordered dict."""
        state = self.pop()
        if isinstance(self.stack[-1], OrderedDict):
            if not isinstance(state, dict) or set(state) - {"_metadata"}:
                raise ArgumentError("its pickle is corrupt (a dict with attributes other than _metadata)")
            vars(self.stack[-1]).update(state)
        else:
            self.top(Stored, "BUILD").state = state

    def set_items(self, values: list[Any]) -> None:
        """Keys and values in turn, into the dict on top."""
        target = self.top(dict, "SETITEMS")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEYS) or not isinstance(key, Hashable):
                raise ArgumentError(f"its pickle is corrupt (a {type(key).__name__} as the key of a dict)")
            target[key] = value

    def stored(self, _: Any) -> None:
        """BINPERSID: a reference to a storage."""
        reference = self.pop()
        self.take(reference)
        self.stack.append(self.persistent(reference))

    def last(self, count: int) -> list[Any]:
        """The topmost values, in order."""
        return [self.pop() for _ in range(count)][::-1]


def _shown(target: Any) -> str:
    return target.name if isinstance(target, StoredClass) else f"a {type(target).__name__}"


_KEYS = (str, int, float, bool, type(None))

_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "INT", "LONG", "FLOAT", "UNICODE",
}  # fmt: skip

_IGNORED = {"PROTO", "FRAME"}

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}

_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "PUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GET": _Machine.get,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.new,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.stored,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": _Machine.since_mark,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.last(3))),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: (value := machine.pop(), machine.top(list, "APPEND").append(value)),
    "APPENDS": lambda machine, _: (values := machine.since_mark(), machine.top(list, "APPENDS").extend(values)),
}
