"""Constructors with some arguments given: what `with_args` and `with_callable_args` return, and what a QConfig
holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any


class Partial:
    """A class with part of its arguments; calling it makes an instance.

    `p` is the functools.partial inside. `callable_args` are called anew for each instance and their results passed on.
    """

    def __init__(self, p: partial[Any], callable_args: Mapping[str, Callable[[], Any]] | None = None) -> None:
        self.p = p
        self.callable_args = dict(callable_args or {})

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        late = {name: make() for name, make in self.callable_args.items() if name not in keywords}
        return self.p(*args, **{**late, **keywords})

    def with_args(self, **keywords: Any) -> Partial:
        """The same with more arguments given; later ones win."""
        return Partial(partial(self.p, **keywords), self.callable_args)

    def with_callable_args(self, **makers: Callable[[], Any]) -> Partial:
        """The same with arguments whose values are made at each call, by functions without arguments."""
        return Partial(self.p, {**self.callable_args, **makers})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partial) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self.p.func)

    def _parts(self) -> tuple[Any, ...]:
        return self.p.func, self.p.args, self.p.keywords, self.callable_args

    def __repr__(self) -> str:
        given = [*map(repr, self.p.args), *(f"{name}={value!r}" for name, value in self.p.keywords.items())]
        given += [f"{name}={make!r}()" for name, make in self.callable_args.items()]
        return f"{getattr(self.p.func, '__name__', self.p.func)}.with_args({', '.join(given)})"


class TakesPartialArgs:
    """Mixin with the two class methods that give arguments in advance."""

    @classmethod
    def with_args(cls, **keywords: Any) -> Partial:
        """A constructor of this class with these arguments given: `MinMaxObserver.with_args(dtype=qcore.qint8)`."""
        return Partial(partial(cls, **keywords))

    @classmethod
    def with_callable_args(cls, **makers: Callable[[], Any]) -> Partial:
        """A constructor of this class with arguments made at each call, each by a function without arguments."""
        return Partial(partial(cls), makers)
