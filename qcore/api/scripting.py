"""torch.jit.script for quantized models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qcore.errors import ArgumentTypeError
from qcore.nn.quantized.scripted import scripting
from qcore.process import TRACING
from qcore.tensor.arguments import check_type


def script(model: nn.Module, example_inputs: Any = None) -> Any:
    """torch.jit.script of a model with quantized modules, which stays as it is; to run it, a process must import qcore.

    Inputs and outputs as the model's. Static modules take their scales from the last runs of the model: run it once on
    an example before. Between modules there are floats, in each of them integers, with the same results, but for
    averages by torch's own functions and modules, which are not rounded before the next layer takes them. A converted
    graph is traced, with the same bits. `example_inputs`: as of torch.jit.script. Raises ArgumentTypeError for anything
    but a module, UnsupportedError, naming the module, for one that was called with different scales.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"script takes a torch.nn.Module; got a {type(model).__name__}")
    if example_inputs is not None:
        check_type("script", (list, dict), example_inputs=example_inputs)
    shells: dict[int, nn.Module] = {}
    with scripting(), TRACING:
        whole: Any = _shell(model, shells)
        if hasattr(whole, "__prepare_scriptable__"):
            whole = whole.__prepare_scriptable__()
            if isinstance(whole, torch.jit.ScriptModule):
                return whole
        return torch.jit.script(whole, example_inputs=example_inputs)


def _shell(module: nn.Module, shells: dict[int, nn.Module]) -> nn.Module:
    """A module with the same contents and shells for its submodules, which torch.jit.script may replace."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) not in shells:
        shell = shells[id(module)] = object.__new__(type(module))
        shell.__dict__.update(module.__dict__)
        shell.__dict__["_modules"] = {name: child and _shell(child, shells) for name, child in module._modules.items()}
    return shells[id(module)]
