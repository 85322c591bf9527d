"""torch.load where qcore is installed: what torch's legacy stack wrote is read by qcore, everything else by torch."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, BinaryIO

from torch import nn

from qcore.compat import checkpoints
from qcore.compat.checkpoints.containers import names
from qcore.errors import ArgumentError

# packed float16 weights are script objects, with nothing else of the stack beside them
_LEGACY = re.compile(
    r"torch\.(ao\.(nn|quantization)\..*|nn\.(quantized|intrinsic|qat|quantizable)\..*|quantization\..*"
    r"|_utils\._rebuild_qtensor|Q\w+Storage|ScriptObject)"
)


def loader(torchs: Callable[..., Any]) -> Callable[..., Any]:
    """torch.load, given torch's own."""

    def load(f: Any, map_location: Any = None, *args: Any, weights_only: bool | None = None, **kwargs: Any) -> Any:
        """What torch.save wrote. A file with quantized tensors or modules of torch's legacy stack gives those of qcore,
        read from a closed list of names (`qcore.compat.checkpoints.load`); with weights_only=False, that list has the
        module classes that the file names and this process can import too. Any other file is read by torch itself.

        Raises ArgumentError, for files of the legacy stack, where `checkpoints.load` does, and for a device other than
        the CPU.
        """
        found = _names(f)
        if not any(map(_LEGACY.fullmatch, found)):
            return torchs(f, map_location, *args, weights_only=weights_only, **kwargs)
        if not (map_location is None or callable(map_location) or str(map_location) == "cpu"):
            raise ArgumentError(f"torch.load: map_location={map_location!r}: quantized tensors are on the CPU")
        return checkpoints.load(f, allow=_module_classes(found) if weights_only is False else ())

    return load


def _names(file: Any) -> set[str]:
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            return names(opened)
    seekable: BinaryIO = file
    is_file = isinstance(file, io.IOBase) or all(hasattr(file, name) for name in ("read", "seek", "tell"))
    return names(seekable) if is_file else set()


def _module_classes(found: Iterable[str]) -> list[type[nn.Module]]:
    """The classes of modules, not torch's, among some names; whoever asks for all of a file trusts what it imports."""
    classes: list[type[nn.Module]] = []
    for name in found:
        module, _, short = name.rpartition(".")
        if module.partition(".")[0] == "torch":
            continue
        try:
            kind = getattr(import_module(module), short, None)
        except ImportError:
            continue  # reading the file says that the name is not on the list
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            classes.append(kind)
    return classes
