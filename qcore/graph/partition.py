"""Cut a converted model into the parts that backends claim and the calls between them."""

from __future__ import annotations

import operator as python
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import fx

from qcore.fx.patterns import is_question
from qcore.graph.calls import is_cut
from qcore.graph.float_calls import FLOATS
from qcore.graph.from_fx import Reading
from qcore.graph.ir import Graph, Node, Value
from qcore.graph.moves import Move


@dataclass
class Stage:
    """Calls of the module level, in the model's order, and then one part that is compiled (None: nothing is).

    `owner`: who claimed the part, as its number.
    """

    calls: list[fx.Node] = field(default_factory=list)
    nodes: list[fx.Node] = field(default_factory=list)
    part: Graph | None = None
    owner: int | None = None


Owners: TypeAlias = "Mapping[fx.Node, int | None]"
"""Nodes of claimed parts, and whose they are; None for one that computes nothing, and goes with any."""


def partition(reading: Reading, claims: Sequence[Collection[Node]], order: list[fx.Node]) -> list[Stage]:
    """Stages that compute the model one after the other; `order`: its fx nodes.

    `claims`: what each backend claims; a node goes to the first that claims it. Each part is one backend's, convex, and
    as large as that allows: a claimed node goes to the first stage whose calls, and those before it, give it what it
    needs, and whose part is its owner's. Calls keep their order. A part of fewer than two operators would gain nothing,
    and is left to the module level; so are operators on floats that no value leads from or to a quantized one.
    """
    taken = {id(node): number for number, claimed in reversed(list(enumerate(claims))) for node in claimed}
    owners = {node: {taken.get(id(each)) for each in made} or {None} for node, made in reading.made.items()}
    inside = {
        node: next(iter(each))
        for node, each in owners.items()
        if len(each) == 1 and (each != {None} or not reading.made[node])
    }
    while True:
        stages = _staged(inside, order)
        few = [stage for stage in stages if _operators(reading, stage) < 2]
        small = {node for stage in few for node in stage.nodes if reading.made[node]}
        small |= {node for stage in stages for node in _only_floats(reading, stage)}
        if not small:
            break
        inside = {node: owner for node, owner in inside.items() if node not in small}
    for stage in stages:
        if _operators(reading, stage):
            stage.part = _part(reading, stage.nodes, inside)
    return stages


def _operators(reading: Reading, stage: Stage) -> int:
    return sum(not isinstance(each.operator, Move) for node in stage.nodes for each in reading.made[node])


def _only_floats(reading: Reading, stage: Stage) -> Iterator[fx.Node]:
    """Nodes of a stage from which no value leads to, and to which none leads from, an operator on integers."""
    reached: set[str] = set()
    left = [node for node in stage.nodes if reading.made[node]]
    while True:
        found = [node for node in left if _is_anchored(reading.made[node], reached)]
        if not found:
            return (yield from left)
        reached |= {
            value.name for node in found for each in reading.made[node] for value in (*each.inputs, *each.outputs)
        }
        left = [node for node in left if node not in set(found)]


def _is_anchored(made: tuple[Node, ...], reached: set[str]) -> bool:
    return any(
        not isinstance(each.operator, (Move, *FLOATS)) or any(v.name in reached for v in (*each.inputs, *each.outputs))
        for each in made
    )


def _staged(inside: Owners, order: list[fx.Node]) -> list[Stage]:
    level: dict[fx.Node, int] = {}
    stages = [Stage()]
    floor = 0
    for node in order:
        is_call = node not in inside
        waits = is_call and not _is_inner(node, inside)
        at = max((level[each] + (waits and each in inside) for each in node.all_input_nodes), default=0)
        at = max(at, floor) if waits else at
        owner = inside.get(node)
        while owner is not None and at < len(stages) and stages[at].owner not in (None, owner):
            at += 1
        level[node] = at
        stages += [Stage() for _ in range(at + 1 - len(stages))]
        if not is_call:
            stages[at].nodes.append(node)
            stages[at].owner = stages[at].owner if owner is None else owner
        elif waits:
            stages[at].calls.append(node)
            floor = at
    return stages


def _is_inner(node: fx.Node, inside: Owners) -> bool:
    """Whether a node only cuts a tensor in pieces, or asks for its size, for nodes of the graph, which do that for
    themselves."""
    source = node.args[0] if node.target is python.getitem else node
    if not isinstance(source, fx.Node) or not (is_cut(source) or is_question(source)):
        return False
    if source is not node and is_cut(source):
        return False  # a piece that no node of the graph cuts
    return all(user in inside or _is_inner(user, inside) for user in node.users)


def _part(reading: Reading, group: list[fx.Node], inside: Owners) -> Graph:
    """The graph of a stage; its outputs are what another stage, a call or the model's caller reads."""
    nodes = [each for node in group for each in reading.made[node]]
    made = {value.name for node in nodes for value in node.outputs}
    members = set(group)
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    for each in nodes:
        inputs.update({value.name: value for value in each.inputs if value.name not in made})
    for node in group:
        value = reading.values[node]
        if value.name in made and any(user not in members for user in _readers(node, inside)):
            outputs[value.name] = value
    return Graph(tuple(inputs.values()), tuple(nodes), tuple(outputs.values()))


def _readers(node: fx.Node, inside: Owners) -> Iterator[fx.Node]:
    """What reads a value, its pieces or its sizes."""
    for user in node.users:
        if user in inside or not _is_inner(user, inside):
            yield user
        else:
            yield from _readers(user, inside)
