"""Where a tensor of the caller's enters: kernels read plain numbers in memory, and torch has many more kinds.

What can be read as plain numbers is; anything else is refused in words, by the name of the argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qcore.errors import ArgumentTypeError
from qcore.tensor.recording import is_recording

_PLAIN = (Tensor, nn.Parameter)


def entered(x: Any, argument: str, floats: bool = False) -> Tensor:
    """x as kernels read tensors: the same numbers, without a negative bit, as no subclass; float32 with `floats`.

    Where operators are recorded, stand-ins without numbers pass. Raises ArgumentTypeError, naming the argument, for
    what is no tensor of real numbers in the CPU's memory.
    """
    if type(x) is Tensor and x.is_cpu and not _against(x):
        plain = x.resolve_neg() if x.is_neg() else x
    else:
        check_readable(x, argument)
        if x.device.type != "cpu" and not is_recording():
            cure = "it has no numbers" if x.device.type == "meta" else "give it as .cpu()"
            raise ArgumentTypeError(f"{argument} is on the device {x.device}, and kernels run on the CPU; {cure}")
        plain = _as_plain(x)
    return plain.float() if floats and plain.dtype is not torch.float32 else plain


def check_readable(x: Any, argument: str) -> None:
    """ArgumentTypeError, naming the argument, for what is no dense tensor of real numbers on some device."""
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"{argument} must be a tensor, not {type(x).__name__}")
    told = "" if type(x) in _PLAIN else _against_kind(type(x))
    if not told:
        with torch._C.DisableTorchFunctionSubclass():
            told = _against(x)
    if told:
        raise ArgumentTypeError(f"{argument} is {told}")


def check_seen(x: Tensor, observer: str) -> None:
    """ArgumentTypeError, naming the observer, for a tensor that it cannot see the numbers of."""
    if type(x) is Tensor and x.is_cpu and x.layout is torch.strided and not x.is_nested:
        return
    if not torch.compiler.is_compiling():
        check_readable(x, f"{observer}: its input")
        if x.is_meta and not is_recording():
            raise ArgumentTypeError(f"{observer}: its input is on the device meta, and has no numbers to observe")


def own_buffers(module: nn.Module, example: Tensor) -> None:
    """Let a module that was made in inference mode write to its buffers outside of it; `example`: one of them."""
    if example.is_inference() and not torch.is_inference_mode_enabled():
        for each in module.modules():
            each._buffers.update({name: buffer.clone() for name, buffer in each._buffers.items() if buffer is not None})


def _as_plain(x: Tensor) -> Tensor:
    if is_recording() and _has_own_dispatch(type(x)):
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return (x if type(x) in _PLAIN else x.as_subclass(Tensor)).resolve_neg()


def _has_own_dispatch(kind: type[Tensor]) -> bool:
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def _against_kind(kind: type[Tensor]) -> str:
    if is_recording() or not _has_own_dispatch(kind):
        return ""
    return f"a {kind.__name__}, whose numbers only its own operators can read; give the plain tensor that it holds"


def _against(x: Tensor) -> str:
    """What kind of tensor it is, and what to do, where no kernel can read it; empty for all others."""
    if x.is_quantized:
        return f"quantized by torch ({x.dtype}); give it as .dequantize(), or quantize by qcore.quantize_per_tensor"
    if x.is_nested:
        return "a nested tensor; give it as .to_padded_tensor(0.0), or its parts one by one"
    if x.layout is not torch.strided:
        return f"a tensor of layout {x.layout}; give it as .to_dense()"
    if x.is_complex():
        return f"complex ({x.dtype}); give real numbers, as of torch.view_as_real"
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "inside of a transform of torch.func, such as vmap, which cannot follow integer kernels; call it outside"
    return ""


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """A block whose new tensors are made on the CPU, whatever the default device; also usable as a decorator."""
    if torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
