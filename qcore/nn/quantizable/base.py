"""Modules that are quantized part by part: prepare and convert go into them."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from torch import nn

from qcore.errors import ArgumentTypeError, UnsupportedError
from qcore.tensor.arguments import name_arguments_of
from qcore.tensor.recording import quiet

Self = TypeVar("Self", bound="Quantizable")


class Quantizable(nn.Module):
    """Base: prepare puts the form made by `from_float` in the place of a float module, then treats its parts as layers
    of the model; so does convert.

    `qcore_path`: its path in the model, for messages; set by prepare."""

    qcore_path: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name_arguments_of(cls, ("__init__", "from_float", "from_params"))

    def _label(self) -> str:
        """How messages name it."""
        kind: str = self._get_name()  # type: ignore[no-untyped-call]
        return f"module {self.qcore_path!r} ({kind})" if self.qcore_path else kind

    def _slow_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """What torch.jit.trace calls in the place of forward."""
        with quiet():
            return super()._slow_forward(*inputs, **kwargs)  # type: ignore[no-untyped-call]

    def __prepare_scriptable__(self) -> NoReturn:
        """UnsupportedError: its parts pass quantized tensors to each other."""
        raise UnsupportedError(
            f"torch.jit.script has no form of {type(self).__name__}: use torch.jit.trace for it, or for the model"
        )

    @classmethod
    def from_float(cls: type[Self], other: Any) -> Self:
        """The same computation in parts, with copies of the parameters."""
        raise UnsupportedError(f"{cls.__name__} stands for no float module; use LSTM, LSTMCell or MultiheadAttention")

    @classmethod
    def from_observed(cls: type[Self], other: Any) -> Self:
        """This class for an observed module, whose parts, hooks and settings it shares.

        Raises ArgumentTypeError for another kind of module.
        """
        parts = cls.__mro__[1]
        if not isinstance(other, parts):
            raise ArgumentTypeError(
                f"{cls.__name__}.from_observed takes an observed {parts.__module__}.{parts.__name__}; got a "
                f"{type(other).__name__}"
            )
        made = cls.__new__(cls)
        made.__dict__.update(other.__dict__)
        return made
