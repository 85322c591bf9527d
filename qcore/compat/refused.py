"""Stand-ins for names of torch's that qcore does not have: importing one is free, using it says what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from qcore.errors import UnsupportedError


class _Refusing(type):
    """The type of stand-ins, which are classes: so `isinstance` and `except` clauses that name them still work."""

    qcore_refusal: str

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(cls.qcore_refusal)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "qcore_refusal" not in vars(cls):
            raise AttributeError(name)
        raise UnsupportedError(cls.qcore_refusal)

    def __iter__(cls) -> NoReturn:
        raise UnsupportedError(cls.qcore_refusal)

    def __getitem__(cls, key: object) -> NoReturn:
        raise UnsupportedError(cls.qcore_refusal)

    def __len__(cls) -> NoReturn:
        raise UnsupportedError(cls.qcore_refusal)

    def __bool__(cls) -> bool:
        return True

    def __repr__(cls) -> str:
        return f"<{cls.__module__}.{cls.__name__}: not in qcore>"


def refused(module: str, name: str, reason: str) -> Any:
    """A stand-in that can be imported and compared; to call, subclass, index or read it raises UnsupportedError."""
    message = f"{module}.{name} is not in qcore: {reason}"

    def refuse(cls: Any, /, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(message)

    body = {
        "__module__": module,
        "__doc__": message,
        "qcore_refusal": message,
        "__init_subclass__": classmethod(refuse),
    }
    return _Refusing(name, (), body)


def refusal(value: object) -> str | None:
    """What a stand-in says; None for anything else."""
    return value.qcore_refusal if isinstance(value, _Refusing) else None
