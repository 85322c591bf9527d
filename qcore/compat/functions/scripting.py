"""torch.jit.script where qcore is installed: models with quantized modules go to qcore.script."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from qcore.api.scripting import script
from qcore.fx.graph_module import QuantizedGraphModule
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.scripted import is_scripting


def scripter(torchs: Callable[..., Any]) -> Callable[..., Any]:
    """torch.jit.script, given torch's own."""

    @wraps(torchs)
    def scripted(obj: Any, *args: Any, **kwargs: Any) -> Any:
        is_quantized = isinstance(obj, nn.Module) and any(isinstance(each, _QUANTIZED) for each in obj.modules())
        if is_quantized and not is_scripting():
            return script(obj, kwargs.get("example_inputs"))
        return torchs(obj, *args, **kwargs)

    return scripted


_QUANTIZED = (QuantizedModule, QuantizedGraphModule)
