"""match: the calls of a graph that quantize as one, with their inputs and what they become."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from qcore import operators as ops
from qcore.fx import patterns
from qcore.fx.modules import Operation, ScalarOperation
from qcore.fx.patterns import Call, Role, Rule, Unfit
from qcore.operators import Operator
from qcore.tensor.qparams import QParams


@dataclass
class Match:
    """`nodes` that quantize as one operation, in order; `inputs`: its activations.

    `operator`: what runs it, as far as that is known now (None: nothing needs a kernel, or the module says).
    `make(out)`: the module that takes its place, with results of these parameters; None: the call stays.
    """

    nodes: list[fx.Node]
    role: Role
    rule: Rule
    inputs: list[fx.Node]
    operator: Operator | None = None
    make: Callable[[QParams | None], nn.Module] | None = None

    @property
    def root(self) -> fx.Node:
        """The first node."""
        return self.nodes[0]

    @property
    def last(self) -> fx.Node:
        """The node whose value is the result."""
        return self.nodes[-1]

    @property
    def moves(self) -> bool:
        """Whether elements only change place, so that nothing is computed."""
        return self.role is Role.MOVE or (self.role is Role.SHARE and self.operator is None and self.make is None)


def match(node: fx.Node, modules: dict[str, nn.Module], fuse_relu: Callable[[Operator], bool]) -> Match | None:
    """The operation that begins with a node; None for what has no quantized form.

    `fuse_relu(operator)`: whether an operator with a ReLU fused to it has a kernel. Raises Unfit, with the reason, for
    arguments that quantized operators do not have.
    """
    rule = patterns.rule_of(node, modules)
    if rule is None:
        return None
    if node.op == "call_module":
        module = modules[str(node.target)]
        given = [each for each in (*node.args, *node.kwargs.values()) if each is not None]
        if rule is patterns.QUANTIZED_MODULE and len(given) > 1:
            raise Unfit(
                "it is called with more than its input (an output_size?), which its quantized form does not take"
            )
        if rule in (patterns.QUANTIZED_MODULE, patterns.SAME_PARAMETERS):
            return Match([node], rule.role, rule, patterns.activations(node, rule), None, None)
    else:
        module = None
        if node.target in (
            *patterns.ADDS,
            *patterns.SUBS,
            *patterns.RSUBS,
            *patterns.MULS,
            *patterns.DIVS,
            *patterns.NEGS,
        ):
            return _arithmetic(node, rule, modules, fuse_relu)
        if node.target in patterns.SEVERAL and not all(map(_takes_one, node.users)):
            raise Unfit("its results are used as one value; take them one by one, as in a, b = x.chunk(2)")
    operator = rule.operator(Call(node, module))
    found = Match([node], rule.role, rule, patterns.activations(node, rule), operator)
    if len(found.inputs) < max(rule.inputs, 1):
        raise Unfit("it lacks a tensor to work on")
    if rule.role in (Role.COMPUTE, Role.FIXED) or isinstance(operator, ops.Cat):
        assert operator is not None
        found.make = _operation(operator)
    return found


def _takes_one(node: fx.Node) -> bool:
    return node.target is python.getitem and type(node.args[1]) is int


def _operation(operator: Operator, negate: bool = False) -> Callable[[QParams | None], nn.Module]:
    def make(out: QParams | None) -> nn.Module:
        assert out is not None
        return Operation(operator, out, negate)

    return make


def _arithmetic(
    node: fx.Node, rule: Rule, modules: dict[str, nn.Module], fuse_relu: Callable[[Operator], bool]
) -> Match:
    operator = None if rule.role is Role.SCALAR else rule.operator(Call(node))
    operands = [*node.args, *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs)][:2]
    tensors = [each for each in operands if isinstance(each, fx.Node)]
    nodes = [node]
    if len(tensors) == 2:
        if operator is None:
            raise Unfit("no kernel divides two quantized tensors")
        kind: Any = type(operator)
        fused: Operator = kind(relu=True)
        if _following_relu(node, modules) and fuse_relu(fused):
            nodes.append(next(iter(node.users)))
            operator = fused
        if node.target in patterns.RSUBS:
            tensors.reverse()
        make = _operation(operator, node.target in (*patterns.SUBS, *patterns.RSUBS))
        return Match(nodes, Role.COMPUTE, rule, tensors, operator, make)
    factor, summand = _numbers(node, operands)
    relu = _following_relu(node, modules)
    if relu:
        nodes.append(next(iter(node.users)))
    # torch observes sums and products with a number together with their input; the rest, which it leaves float, needs
    # no observer
    observed = node.target in (*patterns.ADDS, *patterns.MULS)
    return Match(
        nodes, Role.SHARE if observed else Role.SCALAR, rule, tensors, ops.Clamp(low=0.0) if relu else None,
        lambda out: ScalarOperation(factor, summand, relu),
    )  # fmt: skip


def _numbers(node: fx.Node, operands: list[Any]) -> tuple[float, float]:
    """factor and summand, so that the call is x * factor + summand."""
    if node.target in patterns.NEGS:
        return -1.0, 0.0
    numbers = [float(each) for each in operands if isinstance(each, int | float)]
    if not numbers:
        raise Unfit("its second operand is neither a tensor nor a number")
    number, first = numbers[0], isinstance(operands[0], fx.Node)
    if node.target in patterns.MULS:
        return number, 0.0
    if node.target in patterns.DIVS:
        if not first or number == 0 or "rounding_mode" in node.kwargs:
            raise Unfit("only a division by a number other than 0 has a quantized form")
        return 1.0 / number, 0.0
    if node.target in (*patterns.SUBS, *patterns.RSUBS):
        first = first is (node.target in patterns.SUBS)
        return (1.0, -number) if first else (-1.0, number)
    return 1.0, number


def _following_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a ReLU is the only user."""
    return len(node.users) == 1 and patterns.is_relu(next(iter(node.users)), modules)
