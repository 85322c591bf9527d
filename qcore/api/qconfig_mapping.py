"""QConfigMapping: which QConfig holds for which call of a model."""

from __future__ import annotations

import operator
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from qcore.api.qconfig import (
    QConfig,
    QConfigAny,
    float_qparams_weight_only_qconfig,
    get_default_dynamic_qconfig,
    get_default_qat_qconfig,
    get_default_qconfig,
)
from qcore.errors import ArgumentError, ArgumentTypeError
from qcore.selection import BackendLike
from qcore.tensor.arguments import check_key, takes_dict_form

__all__ = ["QConfigMapping", "get_default_qat_qconfig_mapping", "get_default_qconfig_mapping"]


class QConfigMapping:
    """Rules that give each call its QConfig, or None to leave it float. The later kind of rule wins over the earlier:

    `set_global`; `set_object_type` (module class, function, or name of a method); `set_module_name_regex` (the first
    that matches the whole path); `set_module_name` (a module and all inside); `set_module_name_object_type_order`
    (the n-th call of a type directly in a module). Setters return the mapping, so that calls chain. A rule that matches
    nothing in the model is an error at prepare.
    """

    def __init__(self) -> None:
        self.global_qconfig: QConfigAny = None
        self.object_type_qconfigs: OrderedDict[Any, QConfigAny] = OrderedDict()
        self.module_name_regex_qconfigs: OrderedDict[str, QConfigAny] = OrderedDict()
        self.module_name_qconfigs: OrderedDict[str, QConfigAny] = OrderedDict()
        self.module_name_object_type_order_qconfigs: OrderedDict[tuple[str, Any, int], QConfigAny] = OrderedDict()
        self.default_qconfigs: dict[Any, QConfigAny] = {}
        """By type, like object types, but weaker than all the rules above but the global one, and free to match
        nothing."""
        self.beside_layer_norm: dict[Any, tuple[QConfigAny, str]] = {}
        """By type, and as weak: what holds in a model with layer norms, and the reason, for its report."""

    def set_global(self, global_qconfig: QConfigAny) -> QConfigMapping:
        """For all that no other rule names."""
        self.global_qconfig = _checked(global_qconfig, "set_global")
        return self

    def set_object_type(self, object_type: Any, qconfig: QConfigAny) -> QConfigMapping:
        """For a module class, a function, or a method by its name."""
        check_key("set_object_type", object_type=object_type)
        self.object_type_qconfigs[object_type] = _checked(qconfig, "set_object_type")
        return self

    def set_module_name_regex(self, module_name_regex: str, qconfig: QConfigAny) -> QConfigMapping:
        """For modules whose whole path matches a regular expression; the first rule that matches wins."""
        _check_text(module_name_regex, "set_module_name_regex", "module_name_regex")
        try:
            re.compile(module_name_regex)
        except re.error as error:
            raise ArgumentError(
                f"set_module_name_regex: {module_name_regex!r} is no regular expression: {error}"
            ) from error
        self.module_name_regex_qconfigs[module_name_regex] = _checked(qconfig, "set_module_name_regex")
        return self

    def set_module_name(self, module_name: str, qconfig: QConfigAny) -> QConfigMapping:
        """For the module at a path, and what is inside of it."""
        _check_text(module_name, "set_module_name", "module_name")
        self.module_name_qconfigs[module_name] = _checked(qconfig, "set_module_name")
        return self

    def set_module_name_object_type_order(
        self, module_name: str, object_type: Any, index: int, qconfig: QConfigAny
    ) -> QConfigMapping:
        """For the call number `index` (from 0) of a type directly in the module at a path."""
        _check_text(module_name, "set_module_name_object_type_order", "module_name")
        check_key("set_module_name_object_type_order", object_type=object_type, index=index)
        key = (module_name, object_type, index)
        self.module_name_object_type_order_qconfigs[key] = _checked(qconfig, "set_module_name_object_type_order")
        return self

    def to_dict(self) -> dict[str, Any]:
        """torch's dict form."""
        return {
            "": self.global_qconfig,
            "object_type": list(self.object_type_qconfigs.items()),
            "module_name_regex": list(self.module_name_regex_qconfigs.items()),
            "module_name": list(self.module_name_qconfigs.items()),
            "module_name_object_type_order": [
                (*key, qconfig) for key, qconfig in self.module_name_object_type_order_qconfigs.items()
            ],
        }

    @classmethod
    @takes_dict_form
    def from_dict(cls, qconfig_dict: Mapping[str, Any]) -> QConfigMapping:
        """From torch's dict form. Raises ArgumentError for an unknown key."""
        mapping = cls()
        given = dict(qconfig_dict)
        mapping.set_global(given.pop("", None))
        for key, qconfig in _pairs(given.pop("object_type", ())):
            mapping.set_object_type(key, qconfig)
        for key, qconfig in _pairs(given.pop("module_name_regex", ())):
            mapping.set_module_name_regex(key, qconfig)
        for key, qconfig in _pairs(given.pop("module_name", ())):
            mapping.set_module_name(key, qconfig)
        for rule in given.pop("module_name_object_type_order", ()):
            mapping.set_module_name_object_type_order(*rule)
        if given:
            raise ArgumentError(
                f"QConfigMapping.from_dict: unknown key {next(iter(given))!r}; it takes "
                + ", ".join(map(repr, cls().to_dict()))
            )
        return mapping

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QConfigMapping) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = [f"  {key!r}: {value!r}" for key, value in self.to_dict().items() if value]
        return "QConfigMapping(\n" + "\n".join(lines) + "\n)"


def _pairs(rules: Any) -> list[tuple[Any, Any]]:
    return list(rules.items()) if isinstance(rules, Mapping) else list(rules)


def _check_text(value: Any, setter: str, argument: str) -> None:
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{setter}: {argument} must be a string, as named_modules() has it; got {value!r}")


def _checked(qconfig: Any, setter: str) -> QConfigAny:
    if qconfig is None or isinstance(qconfig, QConfig):
        return qconfig
    raise ArgumentTypeError(
        f"{setter}: {type(qconfig).__module__}.{type(qconfig).__name__} is not a qcore QConfig; give "
        "qcore.QConfig(activation=..., weight=...), or None to leave it float"
    )


def as_qconfig_mapping(value: Any) -> QConfigMapping:
    """The mapping for a QConfigMapping, its dict form, or one QConfig for all; ArgumentTypeError for anything else."""
    if isinstance(value, QConfigMapping):
        return value
    if isinstance(value, QConfig):
        return QConfigMapping().set_global(value)
    if isinstance(value, Mapping):
        return QConfigMapping.from_dict(value)
    raise ArgumentTypeError(
        f"qconfig_mapping must be a qcore QConfigMapping, its dict form, or a QConfig; got "
        f"{type(value).__module__}.{type(value).__name__}"
    )


_RESIDUAL = (
    "float by default in a model with layer norms: one scale for all channels of its residual stream, a few of which "
    "are far larger than the others, costs most of the accuracy. Name it in a QConfigMapping to quantize it"
)
_CURVED = (
    "float by default in a model with layer norms: its 8 bits cost accuracy. Name it in a QConfigMapping to quantize it"
)
_DYNAMIC = (
    "dynamic by default in a model with layer norms: fixed scales would cost accuracy. Name it in a QConfigMapping for "
    "static quantization"
)


def _beside_layer_norm(dynamic: QConfigAny) -> dict[Any, tuple[QConfigAny, str]]:
    sums = (operator.add, operator.iadd, torch.add, "add", "add_")
    return {
        **dict.fromkeys((nn.Linear, F.linear), (dynamic, _DYNAMIC)),
        **dict.fromkeys((nn.LayerNorm, F.layer_norm, torch.layer_norm, *sums), (None, _RESIDUAL)),
        **dict.fromkeys((nn.Softmax, F.softmax, torch.softmax, "softmax", nn.GELU, F.gelu), (None, _CURVED)),
    }


def get_default_qconfig_mapping(backend: BackendLike = "auto", version: int = 0) -> QConfigMapping:
    """A backend's default QConfigs for static quantization; embeddings 8 bits by row, recurrent layers dynamic.

    In a model with layer norms, as transformers have, these, sums, softmax and GELU stay float, and linear layers are
    quantized dynamically, unless a rule names them (`beside_layer_norm`).

    Raises BackendError for a backend that is missing or cannot run here, ArgumentError for an unknown version.
    """
    mapping = QConfigMapping().set_global(get_default_qconfig(backend, version))
    dynamic = get_default_dynamic_qconfig(backend)
    mapping.default_qconfigs = {
        **dict.fromkeys(
            (nn.Embedding, nn.EmbeddingBag, F.embedding, torch.embedding, F.embedding_bag),
            float_qparams_weight_only_qconfig,
        ),
        **dict.fromkeys((nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell), dynamic),
    }
    mapping.beside_layer_norm = _beside_layer_norm(dynamic)
    return mapping


def get_default_qat_qconfig_mapping(backend: BackendLike = "auto", version: int = 1) -> QConfigMapping:
    """A backend's default QConfigs for quantization-aware training; arguments and errors as of
    get_default_qconfig_mapping."""
    return QConfigMapping().set_global(get_default_qat_qconfig(backend, version))
