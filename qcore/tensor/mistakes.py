"""What a call on quantized tensors raises for arguments that it cannot use: torch's error there, or one of ours.

Handlers check what torch would not; the rest is looked at here, once something was raised, so that calls that are right
pay nothing for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name
from torch.utils._pytree import tree_leaves, tree_map

from qcore.errors import QcoreError
from qcore.tensor.arguments import OF_ARGUMENTS, impossible
from qcore.tensor.qtensor import QTensor
from qcore.tensor.recording import is_recording, unseen

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RAISED = (*OF_ARGUMENTS, AssertionError)
"""What is looked at."""
COPIED = 4096
"""Elements of all tensors of a call that is made again with copies; for more, tensors without memory stand in."""
_HANDING_ON: set[CodeType] = set()


def hands_on(function: FunctionT) -> FunctionT:
    """Marks what calls torch on the integers with the arguments that it got: torch's errors are right as they are."""
    _HANDING_ON.add(function.__code__)
    return function


def told(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> Exception:
    """What is to be raised in the place of an error of a function; itself where it is torch's, or of a program's."""
    name = resolve_name(function)
    if name is None or is_recording():
        return error
    theirs = _of_torch(function, args, kwargs)
    if theirs is None:
        return error if _last_of_ours(error) in _HANDING_ON else impossible(name, args, kwargs, error)
    return error if str(theirs) == str(error) else theirs


def _last_of_ours(error: Exception) -> CodeType | None:
    """The function of ours that was the last to be called when an error was raised."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("qcore."):
            found = trace.tb_frame.f_code
        trace = trace.tb_next
    return found


def _of_torch(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Exception | None:
    """What torch raises for the same call with float tensors; None for nothing, and where it cannot be asked."""
    try:
        leaves = tree_leaves((tuple(args), dict(kwargs)))
        twin = _copy if sum(x.numel() for x in leaves if isinstance(x, Tensor)) <= COPIED else _without_memory
        twins, options = tree_map(twin, tuple(args)), tree_map(twin, dict(kwargs))
    except Exception:
        return None
    try:
        with unseen(), torch._C.DisableTorchFunction(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*twins, **options)
    except QcoreError:
        return None
    except Exception as theirs:
        return None if twin is _without_memory and "meta" in str(theirs).lower() else theirs.with_traceback(None)
    return None


def _copy(value: Any) -> Any:
    if isinstance(value, QTensor):
        return value.dequantize()
    return value.clone() if isinstance(value, Tensor) else value


def _without_memory(value: Any) -> Any:
    """A tensor of the same sizes, float32 for a quantized one; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    source = value.raw if isinstance(value, QTensor) else value
    if type(source) not in (Tensor, nn.Parameter) or source.layout is not torch.strided or source.is_nested:
        raise TypeError("only a plain tensor has its like without memory")
    dtype = torch.float32 if isinstance(value, QTensor) else source.dtype
    return torch.empty_strided(source.shape, source.stride(), dtype=dtype, device="meta")
