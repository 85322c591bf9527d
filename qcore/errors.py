"""Every error that qcore raises on purpose; each says what was given, what is allowed and what to do."""

from __future__ import annotations


class QcoreError(Exception):
    """Base of all errors that qcore raises on purpose."""


class BackendError(QcoreError, RuntimeError):
    """A backend that was asked for is missing, broken, or cannot run on this machine."""


class UnsupportedError(QcoreError, NotImplementedError):
    """No backend in reach can run what was asked: an operator, a dtype, a scheme or a shape."""


class QuantizationError(QcoreError, RuntimeError):
    """A model cannot be prepared or converted as asked; the message names the module's path."""


class NotCalibratedError(QuantizationError):
    """Scale and zero point were asked of an observer that has seen no data."""


class ArgumentError(QcoreError, ValueError):
    """An argument is outside of what is allowed; the message names it."""


class ArgumentTypeError(QcoreError, TypeError):
    """An argument is of a type that is not allowed; the message names it."""
