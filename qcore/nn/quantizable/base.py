"""Modules that are quantized part by part: prepare and convert go into them."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from qcore.errors import ArgumentTypeError
from qcore.tensor.compiled import quietly

Self = TypeVar("Self", bound="Quantizable")


class Quantizable(nn.Module):
    """Base: prepare puts the form made by `from_float` in the place of a float module, then treats its parts as layers
    of the model; so does convert."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls):
            cls.forward = quietly(cls.forward)

    @classmethod
    def from_float(cls: type[Self], other: Any) -> Self:
        """The same computation in parts, with copies of the parameters."""
        raise NotImplementedError

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
