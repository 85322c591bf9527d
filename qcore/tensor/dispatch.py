"""What torch's operators do on quantized tensors: a table from ATen operator to handler; what is not in it raises.

Handlers that move elements are in `moves`, those that fill or copy in `writes`, comparisons and sorting in `order`, and
those that run a backend's kernel in `compute`; each registers itself here with `implements`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import resolve_name
from torch.utils._pytree import tree_leaves

from qcore.binding import shared_kernel
from qcore.errors import UnsupportedError
from qcore.operators import Dequantize, Operator, Quantize
from qcore.tensor.dtypes import per_channel_affine_float_qparams
from qcore.tensor.place import place
from qcore.tensor.qparams import QParams
from qcore.tensor.qtensor import QTensor
from qcore.tensor.recording import is_learning, is_recording

Handler = Callable[..., Any]
HandlerT = TypeVar("HandlerT", bound=Handler)

OPERATORS: dict[Any, Handler] = {}
"""ATen operator -> handler(func, *args, **kwargs)."""

FUNCTIONS: dict[Any, Handler] = {}
"""Public function or method -> handler(*args, **kwargs), where the way through ATen is slow or loses the meaning."""


_MIXED: set[Any] = set()


class Refused(UnsupportedError):
    """An ATen operator that has no quantized meaning."""


def implements(*names: str, mixed: bool = False) -> Callable[[HandlerT], HandlerT]:
    """Register a handler for ATen operators by name ("view.default"); those that this torch lacks are left out.

    `mixed`: its first argument need not be a QTensor.
    """

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet, None), overload, None)
            if operator is not None:
                OPERATORS[operator] = handler
                if mixed:
                    _MIXED.add(operator)
        return handler

    return register


def overrides(*functions: Any) -> Callable[[HandlerT], HandlerT]:
    """Register a handler for public functions and methods of torch."""

    def register(handler: HandlerT) -> HandlerT:
        FUNCTIONS.update(dict.fromkeys(functions, handler))
        return handler

    return register


def run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run an ATen operator one of whose arguments is a QTensor; Refused when it has no quantized meaning."""
    handler = OPERATORS.get(func)
    if handler is None and torch.is_inference_mode_enabled():
        # outside of inference mode, torch has split composite operators before they come here
        result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    if handler is None or not (isinstance(args[0], QTensor) or func in _MIXED):
        raise Refused(_refusal(f"{func}", args, kwargs))
    return handler(func, *args, **kwargs)


def explained(function: Any, refused: Refused) -> UnsupportedError:
    """The refusal of an ATen operator, under the name of the function that the user called, and with the place."""
    name = resolve_name(function) or getattr(function, "__name__", str(function))
    where = place()
    return UnsupportedError(f"{f'{where}: ' if where else ''}{name}: {refused}")


# --- for handlers ---------------------------------------------------------------------------------------------------


def kernel(x: QTensor, operator: Operator) -> Callable[..., Any]:
    """The kernel that runs `operator` on x; UnsupportedError if x is quantized per channel."""
    per_tensor_only(x, str(operator))
    return shared_kernel(x.backend, operator, (x.qparams.dtype,))


def per_tensor_only(x: QTensor, what: str) -> None:
    """UnsupportedError if x is quantized per channel."""
    if x.qparams.axis is not None:
        raise UnsupportedError(
            f"{what} of a per-channel quantized tensor is not defined; dequantize() first, or quantize per tensor"
        )


def quantize(x: Tensor, like: QTensor, qparams: QParams) -> Tensor:
    """Integers of float numbers, by the kernel that `like` uses."""
    operator = Quantize(float_zero_points=qparams.scheme == per_channel_affine_float_qparams)
    result: Tensor = shared_kernel(like.backend, operator, (qparams.dtype,))(x, qparams)
    return result


def dequantize(x: QTensor) -> Tensor:
    """Real numbers of a quantized tensor."""
    if x.qparams.axis is not None and (is_recording() or is_learning()):
        return _written_out(x.raw, x.qparams)
    operator = Dequantize(float_zero_points=x.qparams.scheme == per_channel_affine_float_qparams)
    result: Tensor = shared_kernel(x.backend, operator, (x.qparams.dtype,))(x.raw, x.qparams)
    return result


def _written_out(raw: Tensor, qparams: QParams) -> Tensor:
    """The real numbers of a constant that is quantized per channel, by operators of torch's that any recorder knows."""
    shape = [-1 if dim == qparams.axis else 1 for dim in range(raw.ndim)]
    scales: Any = qparams.scale
    zero_points: Any = qparams.zero_point
    result: Tensor = ((raw.double() - zero_points.reshape(shape)) * scales.double().reshape(shape)).float()
    return result


def real(x: Any) -> Any:
    """Real numbers of a quantized tensor; anything else as it is."""
    return dequantize(x) if isinstance(x, QTensor) else x


@implements("dequantize.self")
def _dequantize(func: Any, x: QTensor) -> Tensor:
    return dequantize(x)


@implements("int_repr.default")
def _int_repr(func: Any, x: QTensor) -> Tensor:
    return x.int_repr()


# torch's functions of the same name as a method of ours; some of them will go with torch's quantized dtypes
_METHODS = (
    "q_scale", "q_zero_point", "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis",
    "is_floating_point", "is_complex", "is_signed", "numel",
)  # fmt: skip
for _name in _METHODS:
    if hasattr(torch, _name):
        FUNCTIONS[getattr(torch, _name)] = getattr(QTensor, _name)


# --- errors ---------------------------------------------------------------------------------------------------------

_FLOAT_LAYERS = ("convolution", "addmm", "mm", "bmm", "linear", "native_batch_norm", "native_layer_norm")
_ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "mm", "bmm")


def _refusal(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    plain = name.removeprefix("aten.").partition(".")[0].rstrip("_")
    floats = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not isinstance(x, QTensor)]
    if plain.startswith(_FLOAT_LAYERS) and any(x.is_floating_point() for x in floats):
        return (
            f"a quantized tensor reached a float layer ({name}). Put a DeQuantStub before the layer, or give it a "
            "qconfig so that convert() quantizes it; the model's qcore_report lists what stayed float and why"
        )
    if plain in _ARITHMETIC:
        mixed = " with a float tensor" if floats else ""
        return (
            f"{name} of a quantized tensor{mixed} is not defined, as the scale of the result is not known. Use a "
            "FloatFunctional, which convert() makes a QFunctional; put a QuantStub before floats; or dequantize()"
        )
    return f"{name} has no quantized meaning. dequantize() first, put a DeQuantStub before it, or work on int_repr()"


from qcore.tensor import compute, moves, order, writes  # noqa: E402, F401  (they register their handlers)
