"""lower: each float operation between dequantize and Quantize becomes the quantized module that a backend runs."""

from __future__ import annotations

import operator as python
from collections import Counter
from typing import Any

from torch import fx

from qcore import operators as ops
from qcore.binding import bind
from qcore.errors import UnsupportedError
from qcore.fx.convert import TAKES_INTEGERS, integers_to, is_dequantize
from qcore.fx.graph_module import FLOAT, QuantizedGraphModule, erase_if_unused, finished, free_name, set_submodule
from qcore.fx.match import Match, match
from qcore.fx.modules import ReferenceModule
from qcore.fx.patterns import QUANTIZED_MODULE, SAME_PARAMETERS, Role, Unfit, rule_of
from qcore.nn.quantized.base import QuantizedModule
from qcore.nn.quantized.stubs import Quantize
from qcore.operators import Operator


def lower(model: QuantizedGraphModule, backend: str) -> None:
    """Turn a reference graph, in place, into one of quantized modules that run on a backend."""
    run = _Lowering(model, backend)
    for node in list(model.graph.nodes):
        if node not in run.gone:
            run.visit(node)
    for node in [node for node in model.graph.nodes if TAKES_INTEGERS in node.meta]:
        integers_to(node)  # of values that were moved on the way, which only now are dequantized after it
    finished(model)


class _Lowering:
    def __init__(self, model: QuantizedGraphModule, backend: str) -> None:
        self.model = model
        self.graph = model.graph
        self.backend = backend
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.gone: set[fx.Node] = set()
        self.calls = Counter(str(node.target) for node in self.graph.nodes if node.op == "call_module")
        for module in model.modules():
            if isinstance(module, QuantizedModule):
                module.backend = backend

    def visit(self, node: fx.Node) -> None:
        """Lower what begins at a node, where it can be."""
        if _asks_shape(node):
            number: Any = node.args[0]
            if is_dequantize(number):
                node.replace_input_with(number, number.args[0])
                erase_if_unused(number)
            return
        found = self._match(node)
        if found is None or not found.inputs or not all(map(is_dequantize, found.inputs)):
            return
        quantize = self._quantize_after(found.last)
        if quantize is not None and found.role is not Role.MOVE:
            self._replace(found, quantize)
        elif found.role in (Role.MOVE, Role.SCALAR) or (
            found.role is Role.SHARE and not isinstance(found.operator, ops.Cat)
        ):
            self._sink(found)

    def _match(self, node: fx.Node) -> Match | None:
        if node.op == "call_module" and isinstance(self.modules.get(str(node.target)), ReferenceModule):
            reference: Any = self.modules[str(node.target)]
            inputs = [each for each in node.args if isinstance(each, fx.Node)]
            role = Role.COMPUTE if getattr(reference.quantized, "observes_output", True) else Role.SHARE
            return Match([node], role, QUANTIZED_MODULE, inputs, None, lambda out: reference.quantized)
        if node.meta.get(FLOAT) or rule_of(node, self.modules) in (QUANTIZED_MODULE, SAME_PARAMETERS):
            return None
        try:
            return match(node, self.modules, self._has_kernel)
        except Unfit:
            return None

    def _has_kernel(self, operator: Operator) -> bool:
        try:
            bind(self.backend, operator)
        except UnsupportedError:
            return False
        return True

    def _quantize_after(self, node: fx.Node) -> fx.Node | None:
        """The Quantize that is the only user of a node."""
        if len(node.users) != 1:
            return None
        user = next(iter(node.users))
        is_quantize = user.op == "call_module" and isinstance(self.modules.get(str(user.target)), Quantize)
        return user if is_quantize else None

    def _replace(self, found: Match, quantize: fx.Node) -> None:
        """Make the operation quantized, in the place of what comes up to its Quantize."""
        self._on_integers(found, self.modules[str(quantize.target)]._out)
        quantize.replace_all_uses_with(found.root)
        self._erase(found, quantize)

    def _sink(self, found: Match) -> None:
        """Let a call that keeps or moves integers work on them, and dequantize only its result."""
        users = list(found.last.users)
        self._on_integers(found, None)
        results = [user for user in users if _is_piece(user)] if _gives_list(found) else [found.root]
        if found.last is not found.root:
            found.last.replace_all_uses_with(found.root)
        for result in results:
            with self.graph.inserting_after(result):
                number = self.graph.call_method("dequantize", (result,))
            result.replace_all_uses_with(number, lambda user, number=number: user is not number)  # type: ignore[misc]
            self.gone.add(result)
        self._erase(found)

    def _on_integers(self, found: Match, out: Any) -> None:
        """Let an operation work on the quantized values of its inputs; its first node stands for all then."""
        root = found.root
        quantized: dict[fx.Node, Any] = {each: each.args[0] for each in found.inputs}
        module = found.make(out) if found.make is not None else None
        if module is None:
            for number, integers in quantized.items():
                root.replace_input_with(number, integers)
            return
        if isinstance(module, QuantizedModule):
            module.backend = self.backend
            module.qcore_path = module.qcore_path or root.name
        path = self._path_for(root)
        set_submodule(self.model, path, module)
        self.modules[path] = module
        inputs: Any = [quantized[each] for each in found.inputs]
        if isinstance(found.operator, ops.Cat):
            inputs = [inputs]
        root.op, root.target, root.args, root.kwargs = "call_module", path, tuple(inputs), {}

    def _path_for(self, root: fx.Node) -> str:
        """Where the module of an operation goes: in the place of the one that it was, unless that has other calls,
        which are operations of their own."""
        path = str(root.target)
        if root.op == "call_module" and self.calls[path] == 1:
            return path
        self.calls[path] -= 1
        return free_name(self.model, path if root.op == "call_module" else root.name)

    def _erase(self, found: Match, *after: fx.Node) -> None:
        """Take away what the quantized operation does now, and each dequantize that nothing needs any more."""
        erase_if_unused(*found.nodes[1:], *after)
        self.gone.update((*found.nodes, *after))
        for each in dict.fromkeys(found.inputs):
            erase_if_unused(each)


def _asks_shape(node: fx.Node) -> bool:
    """Whether a node asks for sizes, which integers have as well."""
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target is getattr:
        return node.args[1:] in (("shape",), ("ndim",), ("device",))
    return node.target in ("size", "dim", "numel", "ndimension", len)


def _gives_list(found: Match) -> bool:
    return found.role is Role.MOVE and str(getattr(found.root.target, "__name__", found.root.target)) in (
        "chunk", "split", "unbind", "tensor_split",
    )  # fmt: skip


def _is_piece(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is python.getitem
