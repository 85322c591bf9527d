"""torch's packed parameters, as a file has them -> what the state dict of our module holds in that place."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qcore.compat.checkpoints.names import SCRIPT_OBJECT
from qcore.compat.checkpoints.unpickle import Stored
from qcore.errors import ArgumentError

_CLASSES = "__torch__.torch.classes."


def unpacked(value: Any) -> Any:
    """The canonical value of a packed object; anything else as it is, in tuples and lists too."""
    if isinstance(value, tuple):
        return tuple(unpacked(each) for each in value)
    if not isinstance(value, Stored):
        return value.detach() if isinstance(value, Tensor) else value
    name, state = _class_and_state(value)
    if name not in _UNPACK:
        raise ArgumentError(f"it holds a {name or value.name} where a tensor or packed weights should be")
    try:
        return _UNPACK[name](state)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"its packed {name} is corrupt ({type(error).__name__}: {error})") from error


def is_packed(value: Any) -> bool:
    """Whether this is an object of torch's packed classes."""
    return isinstance(value, Stored) and (value.name == SCRIPT_OBJECT or value.name.startswith(_CLASSES))


def _class_and_state(value: Stored) -> tuple[str, Any]:
    """Name and state of a packed object: torch.save writes both as the state, torch.jit.save names the class."""
    if value.name == SCRIPT_OBJECT:
        if not isinstance(value.state, tuple) or len(value.state) != 2:
            raise ArgumentError("it holds a packed object without a class")
        state, name = value.state
        return str(name).removeprefix(_CLASSES), state
    is_class = value.name.startswith(_CLASSES)
    return (value.name.removeprefix(_CLASSES), value.state) if is_class else ("", None)


def _linear(state: Any) -> tuple[Any, Any]:
    weight, bias = state
    return unpacked((weight, bias))  # type: ignore[no-any-return]


def _cell(state: Any) -> tuple[Any, ...]:
    """("quantized_dynamic" or "quantized_fp16", biases, scales, zero points, [packed w_ih, packed w_hh])."""
    if state[0] not in ("quantized_dynamic", "quantized_fp16"):
        raise ArgumentError(f"it holds cells of the kind {state[0]!r}, which torch's LSTM and GRU are not")
    (w_ih, b_ih), (w_hh, b_hh) = unpacked(tuple(state[4]))
    return w_ih, w_hh, b_ih, b_hh


def _embedding(state: Any) -> Any:
    version, tables, _, numbers = state
    if version != 1 or len(tables) != 1 or numbers[0] not in (4, 8):
        raise ArgumentError(f"it holds a table of embeddings in version {version!r}, of {numbers} bits")
    return unpacked(tables[0])


_UNPACK = {
    "quantized.LinearPackedParamsBase": _linear,
    "rnn.CellParamsBase": _cell,
    "quantized.EmbeddingPackedParamsBase": _embedding,
}
