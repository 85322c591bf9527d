"""The closed list of what a file may name, and what each name stands for; every other name is refused."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from qcore.compat.checkpoints import tensors
from qcore.compat.checkpoints.unpickle import Constructor, Resolve, Stored, StoredClass
from qcore.errors import ArgumentError
from qcore.nn import quantized as nnq
from qcore.nn.intrinsic import quantized as nniq
from qcore.nn.intrinsic.quantized import dynamic as nniqd
from qcore.nn.quantized import dynamic as nnqd
from qcore.tensor.dtypes import DTYPES, SCHEMES

SCRIPT_OBJECT = "torch.ScriptObject"
GRAPH = "torch.fx.GraphModule"

_PLAIN_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "double", "float",
    "half", "long", "int", "short",
)  # fmt: skip


def _restored(value: Any, *tags: Any) -> Any:
    return value


def _graph(body: Any, *imports: Any) -> Stored:
    """A graph module keeps its code as text, which is not run; its weights are in its state."""
    return Stored(GRAPH, body)


_NAMES: dict[str, Any] = {
    "collections.OrderedDict": Constructor(OrderedDict),
    "__builtin__.set": Constructor(set),
    "builtins.set": Constructor(set),
    "torch.Size": Constructor(tuple),
    "torch.device": Constructor(_restored),
    "torch._utils._rebuild_tensor": Constructor(tensors.rebuild_tensor, needs_data=True),
    "torch._utils._rebuild_tensor_v2": Constructor(tensors.rebuild_tensor, needs_data=True),
    "torch._utils._rebuild_qtensor": Constructor(tensors.rebuild_qtensor, needs_data=True),
    "torch._utils._rebuild_parameter": Constructor(tensors.rebuild_parameter, needs_data=True),
    "torch.nn.parameter.Parameter": Constructor(tensors.rebuild_parameter, needs_data=True),
    "torch.jit._pickle.build_intlist": Constructor(list),
    "torch.jit._pickle.build_doublelist": Constructor(list),
    "torch.jit._pickle.build_boollist": Constructor(list),
    "torch.jit._pickle.build_tensorlist": Constructor(list),
    "torch.jit._pickle.restore_type_tag": Constructor(_restored),
    "torch.fx.graph_module.reduce_graph_module": Constructor(_graph),
    "torch.ScriptObject": StoredClass(SCRIPT_OBJECT),
    **{f"torch.{each.name}": each for each in (*DTYPES, *SCHEMES)},
    **{f"torch.{name}": getattr(torch, name) for name in _PLAIN_DTYPES},
    **{f"torch.{name}": kind for name, kind in tensors.STORAGES.items()},
    **{
        f"torch.{name}": StoredClass(f"torch.{name}")
        for name in (
            "nn.modules.module._WrappedHook",
            "ao.quantization.fx._lower_to_native_backend._save_packed_weight",
            "ao.quantization.fx._lower_to_native_backend._load_packed_weight",
        )
    },
}

PARTS = ("LinearPackedParams", "EmbeddingPackedParams", "PackedParameter")
"""Modules of torch's that only hold packed weights."""

_QUANTIZED = re.compile(r"torch\.(ao\.)?nn\.(?P<intrinsic>intrinsic\.)?quantized\.(?P<dynamic>dynamic\.)?[\w.]*")
_FLOAT = re.compile(r"torch\.nn\.modules\.\w+\.(?P<name>\w+)")


def quantized_class(name: str) -> type[nn.Module] | None:
    """Our class for the full name of one of torch's quantized modules; None for other names."""
    found = _QUANTIZED.fullmatch(name)
    if found is None:
        return None
    packages: Any = (nniqd if found["dynamic"] else nniq) if found["intrinsic"] else (nnqd if found["dynamic"] else nnq)
    short = name.rpartition(".")[2]
    return getattr(packages, short) if short in packages.__all__ else None


def float_class(name: str) -> type[nn.Module] | None:
    """torch's class of a float layer, for its full name; None for names that are none."""
    if name == "torch.ao.nn.quantized.modules.dropout.Dropout":
        return nn.Dropout
    found = _FLOAT.fullmatch(name)
    kind = vars(nn).get(found["name"]) if found is not None else None
    is_layer = isinstance(kind, type) and issubclass(kind, nn.Module) and f"{kind.__module__}.{kind.__name__}" == name
    return kind if is_layer else None


def resolver(allow: Sequence[type[nn.Module]], is_scripted: bool) -> Resolve:
    """What a name in a file stands for; `allow`: further module classes, the caller's own."""
    allowed = {f"{kind.__module__}.{kind.__qualname__}" for kind in allow}

    def resolve(module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _NAMES:
            return _NAMES[full]
        if is_scripted and module.partition(".")[0] == "__torch__":
            return StoredClass(full)
        is_part = _QUANTIZED.fullmatch(full) is not None and name in PARTS
        if full in allowed or is_part or quantized_class(full) is not None or float_class(full) is not None:
            return StoredClass(full)
        hint = (
            "If it is a module class of yours, pass it in `allow`; or save and load the model's state_dict() instead"
            if name[:1].isupper()
            else "torch does not write it into a quantized model"
        )
        raise ArgumentError(f"it names {full}, which is not on the list of what a checkpoint may hold. {hint}")

    return resolve
