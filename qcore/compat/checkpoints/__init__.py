"""Checkpoints that torch.ao.quantization wrote, read without torch's quantized dtypes and without running anything."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from torch import fx, nn

from qcore.api._saving.arguments import Budget
from qcore.compat.checkpoints.containers import read
from qcore.compat.checkpoints.graphs import fitted
from qcore.compat.checkpoints.modules import graph_state, module
from qcore.compat.checkpoints.names import GRAPH, resolver
from qcore.compat.checkpoints.packed import unpacked
from qcore.compat.checkpoints.scripted import scripted_state
from qcore.compat.checkpoints.states import state_dict
from qcore.compat.checkpoints.unpickle import Stored
from qcore.errors import ArgumentError, QcoreError

__all__ = ["load"]


def load(
    path: str | os.PathLike[str] | BinaryIO, model: nn.Module | None = None, *, allow: Sequence[type[nn.Module]] = ()
) -> Any:
    """What torch.save or torch.jit.save wrote of a quantized model: a state dict, or a whole module.

    `path`: a file, or one opened for reading bytes. With `model`, the same model prepared and converted by qcore, its
    weights and scales are loaded into that, and it is returned. Without, a state dict has torch's keys, with QTensors
    for weights; a pickled module comes back as a module of ours on the automatic backend (`allow` lists the caller's
    own module classes that it may hold); of a scripted archive, and of a pickled graph module, the weights are read as
    a state dict: their code is not run. Tensors come to the CPU. Formats: docs/checkpoints.md.
    Raises ArgumentError, naming the file and the reason, for one that is truncated or corrupt, that names anything
    outside of a closed list, or that does not fit `model`; nothing that a file names is imported or called. OSError for
    one that cannot be opened.
    """
    try:
        found = _read(path, allow)
        if model is None:
            return found
        state = found.state_dict() if isinstance(found, nn.Module) else found
        if not isinstance(state, OrderedDict):
            raise ArgumentError(f"it holds a {type(found).__name__}, which is no state dict")
        return _loaded(model, state)
    except ArgumentError as error:
        raise ArgumentError(f"{_shown(path)} cannot be read: {error}") from error
    except OSError:
        raise
    except RecursionError as error:
        raise ArgumentError(f"{_shown(path)} cannot be read: it is nested too deep") from error
    except QcoreError as error:
        raise type(error)(f"{_shown(path)} cannot be read: {error}") from error
    except Exception as error:  # of torch's and Python's own, on values that no file of torch's has
        reason = f"it is corrupt ({type(error).__name__}: {str(error)[:200]})"
        raise ArgumentError(f"{_shown(path)} cannot be read: {reason}") from error


def _shown(path: str | os.PathLike[str] | BinaryIO) -> str:
    return repr(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the file"


def _read(path: str | os.PathLike[str] | BinaryIO, allow: Sequence[type[nn.Module]]) -> Any:
    data = Path(path).read_bytes() if isinstance(path, str | os.PathLike) else path.read()
    budget = Budget(2 * len(data))
    stored, is_scripted = read(data, lambda scripted: resolver(allow, scripted))
    if is_scripted:
        return scripted_state(stored)
    if isinstance(stored, Stored):
        return graph_state(stored, budget) if stored.name == GRAPH else module(stored, allow, budget)
    return state_dict(stored) if isinstance(stored, Mapping) else unpacked(stored)


def _loaded(model: nn.Module, state: OrderedDict[str, Any]) -> nn.Module:
    state = fitted(model, state) if isinstance(model, fx.GraphModule) else state
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ArgumentError(f"it does not fit the model; was that prepared and converted alike? {error}") from error
    return model
