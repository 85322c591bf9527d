"""parts: an LSTM that is quantized statically is prepared and converted inside by modules, and called by the graph."""

from __future__ import annotations

import operator as python
from typing import Any

from torch import fx, nn

from qcore.api._convert import convert
from qcore.api._layers import keep_hooks
from qcore.api._prepare import prepare_model
from qcore.nn import catalog
from qcore.nn.quantizable import LSTM
from qcore.selection import Selection


def can_be_in_parts(node: fx.Node, module: object) -> bool:
    """Whether a call is one of an LSTM that has a form in parts, and its results are taken one by one."""
    return type(module) is nn.LSTM and not module.proj_size and bool(results(node))


def is_in_parts(module: object) -> bool:
    """Whether a module is such an LSTM, prepared."""
    return isinstance(module, LSTM)


def prepared(module: nn.Module, kind: Any, qconfig: Any, backend: str, is_qat: bool, path: str) -> nn.Module:
    """The LSTM in parts, of the class `kind`, with observers in it; `path`: where it was, for messages."""
    whole = kind.from_float(module)
    keep_hooks(module, whole)
    whole.qconfig, whole.qcore_path = qconfig, path
    trained = catalog.mapping("qat") if is_qat else None
    return prepare_model(whole, True, None, None, None, Selection.of(backend), False, trained)


def converted(module: nn.Module) -> nn.Module:
    """The quantized LSTM of a prepared one."""
    return convert(module)


def results(node: fx.Node) -> list[fx.Node]:
    """The tensors that are taken of what an LSTM gives, (results, (h, c)); none where not all are taken one by one."""
    tops = list(node.users)
    states = [user for top in tops if _is_item(top) and top.args[1] == 1 for user in top.users]
    if not all(map(_is_item, (*tops, *states))):
        return []
    return [top for top in tops if top.args[1] == 0] + states


def _is_item(node: fx.Node) -> bool:
    return node.target is python.getitem and type(node.args[1]) is int and node.args[1] in (0, 1)
