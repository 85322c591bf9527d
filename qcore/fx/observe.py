"""observe: put observers on the values that will be quantized; results that share parameters share their observer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from qcore import operators as ops
from qcore.api.fake_quantize import FakeQuantizeBase, FixedQParamsFakeQuantize
from qcore.api.observer import FixedQParamsObserver
from qcore.errors import ArgumentError, QuantizationError
from qcore.fx import parts
from qcore.fx.graph_module import QuantizedGraphModule, finished
from qcore.fx.match import Match
from qcore.fx.patterns import Role
from qcore.fx.plan import Step, activation_dtype
from qcore.tensor.dtypes import quint8

OBSERVER = "activation_post_process"


@dataclass(eq=False)
class Slot:
    """A place for an observer: after `value`, for all its users or only for `users`; slots of one group share it.
    `dynamic`: it stands, in training, for what its user will do itself."""

    value: fx.Node
    make: Callable[[], nn.Module]
    dtype: Any
    where: str
    users: list[fx.Node] | None = None
    fixed: bool = False
    dynamic: bool = False
    parent: Slot | None = None
    before: Slot | None = None
    node: fx.Node | None = field(default=None)

    def group(self) -> Slot:
        """The slot that stands for all that share an observer."""
        return self if self.parent is None else self.parent.group()


_DERIVED = None
"""State of a quantized value whose parameters come from those before it."""


class Observing:
    """One run of the pass. `states`: quantized values -> the slot of their observer, or _DERIVED."""

    def __init__(self, model: QuantizedGraphModule, is_qat: bool) -> None:
        self.model = model
        self.is_qat = is_qat
        self.states: dict[fx.Node, Slot | None] = {}
        self.slots: list[Slot] = []
        self._inputs: dict[tuple[fx.Node, Any], Slot] = {}
        self._customs: set[fx.Node] = set()

    def visit(self, step: Step) -> None:
        """Give an operation's inputs and result their slots."""
        found = step.found
        if found is not None and step.how == "dynamic" and self.is_qat:
            self._train_dynamic(step, found)
        if found is None or step.how not in ("static", "custom"):
            return
        first = found.inputs[0]
        if found.role in (Role.MOVE, Role.SCALAR) or (found.moves and first not in self.states):
            if first in self.states:
                self.states[found.last] = self.states[first] if found.role is not Role.SCALAR else _DERIVED
            return
        shared = [self._need(value, found.root, step) for value in found.inputs]
        is_number = found.role is Role.SHARE and found.make is not None and not isinstance(found.operator, ops.Cat)
        if step.how == "custom" or (is_number and self.is_qat):
            # an average of the ranges before and after a sum or product with a number would clip one of them
            self.states[found.last] = _DERIVED
            if step.how == "custom":
                self._customs.update((found.last, *parts.results(found.last)))
            return
        result = self._slot(found.last, step)
        if found.role is Role.FIXED and result.dtype == quint8:
            scale, zero_point = found.rule.fixed
            make = FixedQParamsObserver.with_args(scale=scale, zero_point=zero_point)
            result.make = FixedQParamsFakeQuantize.with_args(observer=make) if self.is_qat else make
            result.fixed = True
        elif found.role is Role.SHARE:
            groups = [slot.group() for slot in shared if slot is not None]
            free = [group for group in groups if not group.fixed] or groups
            if not free:
                self.states[found.last] = _DERIVED
                return
            for group in [*free[1:], result]:
                if group.group() is not free[0].group():
                    group.parent = free[0].group()
        self.slots.append(result)
        self.states[found.last] = result

    def _train_dynamic(self, step: Step, found: Match) -> None:
        """Fake-quantize what a layer will quantize by the range of each input."""
        if isinstance(step.qconfig.activation(), FakeQuantizeBase):
            for value in found.inputs:
                slot = self._slot(value, step)
                slot.users, slot.before, slot.dynamic = [found.root], self.states.get(value), True
                self.slots.append(slot)

    def _need(self, value: fx.Node, user: fx.Node, step: Step) -> Slot | None:
        """The slot of a value that an operation reads; a new one before that operation where there is none."""
        dtype = activation_dtype(step.qconfig)
        before = self.states.get(value)
        known = value in self.states and (before is None or before.dtype == dtype)
        if known and (step.how != "custom" or self._is_direct(value)):
            return before
        slot = self._inputs.get((value, dtype))
        if slot is None:
            slot = self._slot(value, step)
            slot.users, slot.before = [], before
            self._inputs[(value, dtype)] = slot
            self.slots.append(slot)
        assert slot.users is not None
        slot.users.append(user)
        return slot

    def _is_direct(self, value: fx.Node) -> bool:
        """Whether a value comes right from what quantizes it: custom modules take no other, as what is between computes
        with floats in the reference form."""
        slot = self.states[value]
        if slot is not None:
            return slot.value is value
        return value in self._customs

    def _slot(self, value: fx.Node, step: Step) -> Slot:
        return Slot(value, step.qconfig.activation, activation_dtype(step.qconfig), step.where)

    def insert(self) -> None:
        """Put the observers into the graph."""
        graph = self.model.graph
        names: dict[Slot, str] = {}
        last_input = [node for node in graph.nodes if node.op == "placeholder"]
        for slot in self.slots:
            group = slot.group()
            if group not in names:
                names[group] = f"{OBSERVER}_{len(names)}"
                observer: Any = group.make()
                observer.qcore_path = group.where
                observer.qcore_dynamic = group.dynamic
                observer.register_forward_pre_hook(refuse_integers)
                self.model.add_module(names[group], observer)
            source = slot.before.node if slot.before is not None and slot.before.node is not None else slot.value
            after = last_input[-1] if source.op == "placeholder" else source
            with graph.inserting_after(after):
                slot.node = graph.call_module(names[group], (source,))
            if slot.users is None:
                new = slot.node
                source.replace_all_uses_with(new, lambda user, new=new: user is not new)  # type: ignore[misc]
            else:
                for user in slot.users:
                    user.replace_input_with(source, slot.node)


def refuse_integers(observer: Any, inputs: tuple[Any, ...]) -> None:
    """The hook before an observer: QuantizationError, naming the place, for what is no float tensor."""
    if not inputs:
        return  # by keyword, which no graph does, or missing, which forward tells
    given = inputs[0]
    if isinstance(given, Tensor) and given.is_floating_point():
        return
    found = f"{given.dtype} tensor" if isinstance(given, Tensor) else type(given).__name__
    if isinstance(given, PackedSequence):
        cure = "Pad the sequences, or set the LSTM's qconfig to default_dynamic_qconfig, with which it takes them"
    else:
        cure = "Convert the input to float first, as for the float model"
    raise QuantizationError(
        f"calibration gave {observer.qcore_path!r} a {found}; what is quantized there must be a float tensor, as the "
        f"example inputs were. {cure}"
    )


def check_ends(model: QuantizedGraphModule) -> None:
    """ArgumentError for positions of quantized inputs and outputs that the model does not have."""
    inputs = sum(node.op == "placeholder" for node in model.graph.nodes)
    value: Any = next(node for node in model.graph.nodes if node.op == "output").args[0]
    outputs = len(value) if isinstance(value, tuple | list) else 1
    for given, count, what in (
        (model.qcore_quantized_inputs, inputs, "input"),
        (model.qcore_quantized_outputs, outputs, "output"),
    ):
        wrong = [index for index in given if type(index) is not int or not 0 <= index < count]
        if wrong:
            raise ArgumentError(
                f"{what}_quantized_indexes: there is no {what} {wrong[0]!r}; the model has {count}, counted from 0"
            )


def observe(model: QuantizedGraphModule, steps: list[Step], is_qat: bool = False) -> None:
    """Insert, in place, the observers that the steps of a plan need."""
    run = Observing(model, is_qat)
    inputs = [node for node in model.graph.nodes if node.op == "placeholder"]
    for index in model.qcore_quantized_inputs:
        run.states[inputs[index]] = _DERIVED
    for step in steps:
        run.visit(step)
    _check_outputs(model, run.states)
    run.insert()
    finished(model)


def _check_outputs(model: QuantizedGraphModule, states: dict[fx.Node, Slot | None]) -> None:
    value: Any = next(node for node in model.graph.nodes if node.op == "output").args[0]
    for index in model.qcore_quantized_outputs:
        result = value[index] if isinstance(value, tuple | list) else value
        if result not in states:
            raise QuantizationError(
                f"output_quantized_indexes: output {index} ({result}) is not quantized; name a QConfig for what makes "
                "it, or leave this output float"
            )
