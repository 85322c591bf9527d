"""Read the quantized graph of a converted model; what has no place in one stays on the module level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from qcore import operators as ops
from qcore.errors import QcoreError
from qcore.fx.convert import is_dequantize
from qcore.fx.graph_module import attribute
from qcore.fx.modules import Operation, ScalarOperation
from qcore.fx.patterns import Call, Unfit
from qcore.graph.calls import CALLS, Made, is_cut
from qcore.graph.float_calls import FLOAT_CALLS, SUMS, attention, embedding
from qcore.graph.ir import DTYPE, Graph, Node, Value
from qcore.graph.moves import Contiguous, Move, Permute, Relabel, Remap, Reshape, Transpose, Unsqueeze
from qcore.nn.quantizable import Quantizable
from qcore.nn.quantized.activation import ReLU6
from qcore.nn.quantized.base import float_dtype_of
from qcore.nn.quantized.conv import ConvBase
from qcore.nn.quantized.dynamic.linear import Linear as DynamicLinear
from qcore.nn.quantized.functional_modules import QFunctional
from qcore.nn.quantized.in_float import InFloat
from qcore.nn.quantized.static import StaticOutput
from qcore.nn.quantized.stubs import DeQuantize, Quantize
from qcore.tensor.dtypes import qint8, quint8
from qcore.tensor.qtensor import QTensor

_FLOAT = Value("")
_INDICES = Value("", plain=torch.int64)
FUNCTIONALS = {"add": ops.Add(), "add_relu": ops.Add(relu=True), "mul": ops.Mul(), "cat": ops.Cat()}
"""Methods of QFunctional, and what they compute."""


@dataclass
class Reading:
    """A model's graph and where it came from.

    `values`: the value of each fx node that has one here; `made`: the graph's nodes of each fx node that was read,
    none for one that passes its input on; `constants`: paths of the float tensors that nodes compute with.
    """

    graph: Graph
    values: dict[fx.Node, Value] = field(default_factory=dict)
    made: dict[fx.Node, tuple[Node, ...]] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)


def read(model: fx.GraphModule, graph: fx.Graph | None = None) -> Reading:
    """The quantized graph of a converted model; `graph`: what to read in place of its own.

    Its inputs are what nodes read of the model's inputs, and of calls that stay on the module level, and its outputs
    what those, or the model's caller, read. An input may so depend on an output, through a call outside of the graph.
    """
    run = _Reader(model, model.graph if graph is None else graph)
    if not run.mutates():
        for node in run.graph.nodes:
            run.visit(node)
    return run.finish()


class _Reader:
    def __init__(self, model: fx.GraphModule, graph: fx.Graph) -> None:
        self.model = model
        self.graph = graph
        self.modules: dict[str, Any] = dict(model.named_modules(remove_duplicate=False))
        self.values: dict[fx.Node, Value] = {}
        self.made: dict[fx.Node, tuple[Node, ...]] = {}
        self.constants: list[str] = []

    def mutates(self) -> bool:
        """Whether a call changes, in place, a value that others read too: a graph has no place for that."""
        return any(
            isinstance(node.args[0], fx.Node) and len(node.args[0].users) > 1
            for node in self.graph.nodes
            if node.args and self._is_in_place(node)
        )

    def _is_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        if node.op not in ("call_function", "call_method"):
            return False
        name = str(getattr(node.target, "__name__", node.target))
        return (
            bool(node.kwargs.get("inplace"))
            or (name.endswith("_") and not name.startswith("_"))
            or (name in ("setitem", "iadd", "isub", "imul", "itruediv") or node.kwargs.get("out") is not None)
        )

    def visit(self, node: fx.Node) -> None:
        """Read one node, if it has a place in a graph."""
        try:
            if node.op == "call_module":
                self._module(node, self.modules[str(node.target)])
            elif is_dequantize(node):
                self._add(node, ops.Dequantize(), _FLOAT, self._quantized(node.args[0]))
            elif node.op == "call_method" and self._functional(node) is not None:
                self._method(node, self._functional(node))
            elif node.target is torch.stack:
                self._stack(node)
            elif node.op in ("call_function", "call_method") and node.target in SUMS:
                self._sum(node)
            elif node.target is F.scaled_dot_product_attention:
                self._attention(node)
            elif node.op in ("call_function", "call_method"):
                self._call_or_float(node, None)
        except (Unfit, QcoreError):
            self.made.pop(node, None)
            self.values.pop(node, None)

    def finish(self) -> Reading:
        """The graph of all that was read."""
        nodes = tuple(each for made in self.made.values() for each in made)
        produced = {value.name for node in nodes for value in node.outputs}
        needed = {value.name: value for node in nodes for value in node.inputs if value.name not in produced}
        read = {
            self.values[source].name: self.values[source]
            for node in self.graph.nodes
            if node not in self.made and not self._is_cut(node)
            for source in node.all_input_nodes
            if source in self.values and self.values[source].name in produced
        }
        graph = Graph(tuple(needed.values()), nodes, tuple(read.values()))
        return Reading(graph, self.values, self.made, self.constants)

    def _is_cut(self, node: fx.Node) -> bool:
        """Whether a node cuts a tensor in pieces, all of which nodes of the graph cut for themselves."""
        return is_cut(node) and all(user in self.made for user in node.users)

    # --- values -----------------------------------------------------------------------------------------------------

    def _quantized(self, source: Any) -> Value:
        """The value of an argument that must be quantized with parameters that are known."""
        if isinstance(source, fx.Node):
            value = self.values.get(source) or self._outside(source)
            if value is not None and value.qparams is not None:
                return value
        raise Unfit("its input is not known to be quantized")

    def _float(self, source: Any) -> Value:
        """The value of an argument that must be float."""
        if not isinstance(source, fx.Node):
            raise Unfit("its input is no tensor of the graph")
        if source not in self.values and self._comes_in_integers(source):
            raise Unfit("its input is quantized, with parameters that only a call tells")
        value = self.values.setdefault(source, Value(source.name))
        if value.dtype is not torch.float32:
            raise Unfit("its input is not float")
        return value

    def _indices(self, source: Any) -> Value:
        """The value of an argument that must be integers as they are."""
        if not isinstance(source, fx.Node) or self.values.get(source, _INDICES).dtype is not torch.int64:
            raise Unfit("its input is no tensor of indices")
        return self.values.setdefault(source, Value(source.name, plain=torch.int64))

    def _comes_in_integers(self, source: fx.Node) -> bool:
        """Whether a value that has no place here is taken of what a layer in parts gives."""
        while source.op in ("call_function", "call_method") and source not in self.values:
            if is_dequantize(source) or not source.args or not isinstance(source.args[0], fx.Node):
                return False
            source = source.args[0]
        return source.op == "call_module" and isinstance(self.modules.get(str(source.target)), Quantizable)

    def _outside(self, source: fx.Node) -> Value | None:
        """The value of a call that stays on the module level, where its parameters are known."""
        module = self.modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(module, StaticOutput):
            return None
        if isinstance(module, InFloat) and (
            module.others or not module.quantizes or not self._is_quantized(source.args)
        ):
            return None  # floats, or what is told only by the call
        return self.values.setdefault(source, Value(source.name, module.output_qparams))

    def _is_quantized(self, args: Any) -> bool:
        known = self.values.get(args[0]) if args and isinstance(args[0], fx.Node) else None
        return known is not None and known.qparams is not None

    def _add(self, node: fx.Node, operator: Any, out: Value, *inputs: Value) -> Value:
        """One graph node for an fx node, after those that it has already; `out` says what its result is."""
        before = self.made.get(node, ())
        name = node.name if not before else f"{node.name}.{len(before)}"
        value = Value(name, out.qparams, out.plain)
        path = str(node.target) if node.op == "call_module" else node.name
        self.made[node] = (*before, Node(operator, inputs, (value,), path))
        self.values[node] = value
        return value

    # --- kinds of nodes ---------------------------------------------------------------------------------------------

    def _module(self, node: fx.Node, module: Any) -> None:
        elsewhere = getattr(module, "backend", None) not in (None, self.model.qcore_runs_on)
        if module._forward_hooks or module._forward_pre_hooks or node.kwargs or elsewhere:
            return
        if {float_dtype_of(module), getattr(module, "float_dtype", torch.float32)} != {torch.float32}:
            return  # plans give float32
        if isinstance(module, Quantize):
            self._add(node, module.operator(), Value("", module._out), self._float(node.args[0]))
        elif isinstance(module, DeQuantize):
            self._add(node, module.operator(), _FLOAT, self._quantized(node.args[0]))
        elif isinstance(module, ScalarOperation):
            self._scalar(node, module, self._quantized(node.args[0]))
        elif isinstance(module, DynamicLinear):
            if not module.float16:
                self._add(node, module.operator(), _FLOAT, self._float(node.args[0]))
        elif type(module) is nn.Embedding:
            self._add(node, embedding(module), _FLOAT, self._indices(node.args[0]))
            self.constants.append(f"{node.target}.weight")
        elif isinstance(module, ReLU6):
            x = self._quantized(node.args[0])
            self._add(node, module.operator(), x, x)
        elif isinstance(module, Operation) or (
            isinstance(module, StaticOutput) and len(node.args) == 1 and module.observes_output
        ):
            self._static(node, module)
        elif not (isinstance(module, nn.modules.dropout._DropoutNd) and module.training):
            self._call_or_float(node, module)

    def _static(self, node: fx.Node, module: StaticOutput) -> None:
        listed: Any = node.args[0] if isinstance(node.args[0], list | tuple) else node.args
        inputs = [self._quantized(each) for each in listed]
        if isinstance(module, ConvBase) and module._explicit_padding:
            raise Unfit("it pads by more than zeros")
        if isinstance(module, Operation) and module.negate:
            raise Unfit("it subtracts")
        self._add(node, module.operator(), Value("", module.output_qparams), *inputs)

    def _functional(self, node: fx.Node) -> QFunctional | None:
        """The QFunctional whose method a node calls."""
        owner = node.args[0]
        module = self.modules.get(str(owner.target)) if isinstance(owner, fx.Node) and owner.op == "get_attr" else None
        return module if isinstance(module, QFunctional) else None

    def _method(self, node: fx.Node, module: Any) -> None:
        operator: Any = FUNCTIONALS.get(str(node.target))
        if operator is None or node.kwargs or module.backend not in (None, self.model.qcore_runs_on):
            raise Unfit("it is no operator of two inputs")
        given: Any = node.args[1:]
        if isinstance(operator, ops.Cat):
            operator, given = ops.Cat(given[1] if len(given) > 1 else 0), given[0]
        inputs = [self._quantized(each) for each in given]
        self._add(node, operator, Value("", module.output_qparams), *inputs)

    def _scalar(self, node: fx.Node, module: ScalarOperation, x: Value) -> None:
        """What adding and multiplying numbers makes of each integer, found by doing it to all of them."""
        assert x.qparams is not None
        if x.qparams.dtype not in (quint8, qint8):
            raise Unfit("its input has more than 8 bits")
        storage = x.qparams.dtype.storage
        integers = torch.arange(x.qparams.dtype.qmin, x.qparams.dtype.qmax + 1, device="cpu").to(storage)
        result: Any = module(QTensor(integers, x.qparams, module.backend))
        same = torch.equal(result.raw, integers)
        step = Relabel() if same else Remap(tuple(result.raw.tolist()))
        self._add(node, step, Value("", result.qparams), x)

    def _call_or_float(self, node: fx.Node, module: nn.Module | None) -> None:
        """A call on what is quantized or float; a function of floats is float itself."""
        kind: Any = type(module) if module is not None else node.target
        source: Any = node.args[0] if node.args else None
        known = self.values.get(source) if isinstance(source, fx.Node) else None
        is_float = kind not in CALLS if known is None else known.dtype is torch.float32
        if kind in FLOAT_CALLS and is_float:
            self._float_call(node, module, kind)
        elif kind in CALLS:
            self._call(node, module)

    def _float_call(self, node: fx.Node, module: nn.Module | None, kind: Any) -> None:
        operator = FLOAT_CALLS[kind](Call(node, module), self._constant)
        x = self._float(node.args[0])
        self._add(node, operator, _FLOAT, x)
        if module is not None:
            names = [name for name, each in module.named_parameters(recurse=False) if each is not None]
            self.constants += [f"{node.target}.{name}" for name in names]
        self.constants += [
            str(each.target) for each in node.all_input_nodes if each.op == "get_attr" and each is not node.args[0]
        ]

    def _constant(self, source: Any) -> torch.Tensor | None:
        """The tensor of the model that an argument names."""
        if source is None:
            return None
        if not isinstance(source, fx.Node) or source.op != "get_attr":
            raise Unfit("its weight or its bias is computed")
        found: Any = attribute(self.model, str(source.target))
        if not isinstance(found, torch.Tensor):
            raise Unfit("its weight or its bias is no tensor")
        return found

    def _sum(self, node: fx.Node) -> None:
        """Of two values that are known to be float."""
        if node.kwargs or len(node.args) != 2:
            raise Unfit("it adds other than two tensors")
        self._add(node, ops.FloatAdd(), _FLOAT, *map(self._known_float, node.args))

    def _known_float(self, source: Any) -> Value:
        """The value of an argument that is known to be float."""
        value = self.values.get(source) if isinstance(source, fx.Node) else None
        if value is None or value.dtype is not torch.float32:
            raise Unfit("its inputs are not known to be float tensors")
        return value

    def _attention(self, node: fx.Node) -> None:
        """Of floats that are known to have 4 dimensions."""
        call = Call(node)
        given = [call.get(position, name) for position, name in enumerate(("query", "key", "value", "attn_mask"))]
        inputs = [self._known_float(each) for each in given[:3]]
        inputs += [] if given[3] is None else [self._mask(given[3])]
        if any(self._rank(each) != 4 for each in given[:3]):
            raise Unfit("its inputs are not known to have 4 dimensions")
        self._add(node, attention(call), _FLOAT, *inputs)

    def _mask(self, source: Any) -> Value:
        """The value of a mask that is known to be of bools, or float."""
        if isinstance(source, fx.Node) and source.meta.get(DTYPE) is torch.bool:
            return self.values.setdefault(source, Value(source.name, plain=torch.bool))
        return self._known_float(source)

    def _rank(self, node: fx.Node) -> int | None:
        """How many dimensions a value has, where the moves that made it say so."""
        for made in reversed(self.made.get(node, ())):
            if isinstance(made.operator, Reshape):
                return len(made.operator.sizes)
            if isinstance(made.operator, Permute):
                return len(made.operator.dims)
            if not isinstance(made.operator, Transpose | Contiguous):
                return None
        return self._rank(node.args[0]) if node in self.made and isinstance(node.args[0], fx.Node) else None

    def _call(self, node: fx.Node, module: nn.Module | None) -> None:
        source: Any = node.args[0]
        is_piece = isinstance(source, fx.Node) and is_cut(source)
        source = source.args[0] if is_piece else source
        known = self.values.get(source) if isinstance(source, fx.Node) else None
        x = self._quantized(source) if known is None else known
        made: Made = CALLS[type(module) if module is not None else node.target](Call(node, module))
        steps, asked = made
        if x.qparams is None and (x.plain is not torch.float32 or not all(isinstance(step, Move) for step in steps)):
            raise Unfit("it computes with floats, or moves indices or masks")
        others = [self._sized(each) for each in asked]
        self.made[node] = ()
        self.values[node] = x
        for step in steps:
            x = self._add(node, step, x, x, *(others if step is steps[-1] else ()))

    def _sized(self, source: fx.Node) -> Value:
        """A value that is read for its sizes."""
        return self.values[source] if source in self.values else self._outside(source) or self._float(source)

    def _stack(self, node: fx.Node) -> None:
        """Cat along a new dimension."""
        listed: Any = node.args[0] if node.args else node.kwargs.get("tensors", ())
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if isinstance(listed, fx.Node):
            raise Unfit("its tensors come as one value")
        inputs = [self._quantized(each) for each in listed]
        if dim < 0 or any(x.qparams != inputs[0].qparams for x in inputs):
            raise Unfit("its inputs differ in their parameters, or its dim counts from the last")
        parts = [self._add(node, Unsqueeze(dim), x, x) for x in inputs]
        self._add(node, ops.Cat(dim), inputs[0], *parts)
