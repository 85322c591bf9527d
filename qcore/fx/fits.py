"""fits: values that 8 bits do not fit: numbers that become indices or masks, and those with -inf among them."""

from __future__ import annotations

from torch import fx, nn

from qcore.fx.kinds import Kind, Values
from qcore.fx.patterns import is_question

_INDICES = "it computes indices or masks, in which a rounding is another element"
_FROM_INTEGERS = "it computes from integers alone, which 8 bits do not hold"
_EXTREME = "its values reach -inf or the least float, which leaves no 8 bits for the others"
_WIDE = "it masks what a softmax gets: the range of masks leaves nothing of that of the scores"

_FILLS = ("masked_fill", "masked_fill_", "where")
_SOFTMAX = ("softmax", "log_softmax", "_softmax")
_LARGE, _RANGE = 1e30, 128.0


def reasons_against(model: fx.GraphModule, values: Values) -> tuple[dict[fx.Node, str], dict[fx.Node, str]]:
    """Why values cannot be quantized, and why calls without weights should not compute in 8 bits."""
    modules = dict(model.named_modules(remove_duplicate=False))
    extreme = _extreme(model.graph, values)
    calls = {**_from_integers(model.graph, values, modules), **_to_integers(model.graph, values, modules)}
    return extreme, calls


def _extreme(graph: fx.Graph, values: Values) -> dict[fx.Node, str]:
    found: dict[fx.Node, str] = {}
    for node in graph.nodes:
        low, high = values.ranges.get(node, (0.0, 0.0))
        name = _name(node)
        filled = name in _FILLS and any(_is_large(each) for each in (*node.args, *node.kwargs.values()))
        if low < -_LARGE or high > _LARGE or filled:
            found[node] = _EXTREME
        if name.lower() in _SOFTMAX:
            for each in node.all_input_nodes:
                low, high = values.ranges.get(each, (0.0, 0.0))
                if high - low > _RANGE:
                    found.setdefault(each, _WIDE)
    return found


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _is_large(value: object) -> bool:
    return isinstance(value, float) and not -_LARGE < value < _LARGE


def _from_integers(graph: fx.Graph, values: Values, modules: dict[str, nn.Module]) -> dict[fx.Node, str]:
    """Calls on what comes of integers and constants, and of no layer and no float input."""
    constant, integer, real = range(3)
    origin: dict[fx.Node, int] = {}
    for node in graph.nodes:
        kind = values.kinds.get(node)
        if is_question(node) and kind is Kind.OTHER:
            origin[node] = integer
        elif node.op == "get_attr":
            origin[node] = constant
        elif node.op == "placeholder" or _has_weights(node, modules):
            origin[node] = real if kind is Kind.FLOAT or node.op != "placeholder" else integer
        else:
            made = constant if kind is not Kind.INTEGER else integer
            origin[node] = max((origin[each] for each in node.all_input_nodes), default=made)
    return {node: _FROM_INTEGERS for node, each in origin.items() if each == integer}


def _to_integers(graph: fx.Graph, values: Values, modules: dict[str, nn.Module]) -> dict[fx.Node, str]:
    """Calls all of whose uses end in integers or bools."""
    leads: dict[fx.Node, bool] = {}
    for node in reversed(graph.nodes):
        sizes = [user for user in node.users if is_question(user) and values.kinds.get(user) is Kind.OTHER]
        users = [user for user in node.users if user not in sizes]
        leads[node] = bool(users) and all(
            user.op != "output"
            and not _has_weights(user, modules)
            and (values.kinds.get(user) in (Kind.INTEGER, Kind.OTHER) or leads[user])
            for user in users
        )
    return {node: _INDICES for node, found in leads.items() if found}


def _has_weights(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and any(True for _ in modules[str(node.target)].parameters())
