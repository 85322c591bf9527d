"""Modules within the model, some that no tracer can enter; stacks in a loop; arguments that are no tensors."""

from __future__ import annotations

import torch.nn.functional as F

from tests.drawn.drawer import Discard, Drawer
from tests.drawn.program import Scope, Statement

BRANCHES = (
    "if x0.sum() > 1e6:\n    x0 = x0 * 0.5",
    "if x0.abs().max() < 1e6:\n    x0 = x0 + 0.5",
    "if x0.shape[0] > 100:\n    raise ValueError('too many')",
    "if not torch.isfinite(x0).all():\n    raise ValueError('not finite')",
    "for _ in range(min(2, x0.shape[0] + 1)):\n    x0 = x0 * 0.9",
    "x0 = x0 / max(1.0, float(x0.abs().mean()))",
    "while x0.abs().max() > 1e5:\n    x0 = x0 / 2",
    "if x0.size(1) % 2:\n    x0 = x0 * 0.5",
    "assert x0.dim() < 6",
)
ARGUMENTS = (
    ("scale", "0.5", "{x} * scale"),
    ("keep", "0", "{x}[..., slice(-keep, None)]"),
    ("dim", "1", "{x} - {x}.mean(dim, keepdim=True)"),
    ("flag", "True", "torch.tanh({x}) if flag else {x}"),
    ("mode", "'relu'", "getattr(F, mode)({x})"),
    ("mode", "'sum'", "{x} + 1 if mode == 'sum' else {x}"),
    ("other", "None", "{x} if other is None else {x} + other"),
    ("times", "2", "sum([{x}] * times)"),
    ("shift", "-1", "{x}.roll(shift, -1)"),
    ("size", "(2, 0)", "F.pad({x}, size)"),
    ("dtype", "torch.float32", "{x}.to(dtype)"),
)


def block(d: Drawer, within: tuple = (), opening: str = "") -> None:
    """A module class of the user's, called once or twice."""
    from tests.drawn.vocabulary import CHOICES, WEIGHTS

    if d.depth > 1:
        raise Discard
    rng = d.rng
    x = d.floats((2, 3, 4))
    given = [x] if rng.random() < 0.75 else [x, d.floats((2, 3, 4))]
    runs = [{f"x{i}": run[name].clone() for i, name in enumerate(given)} for run in d.runs]
    inner = Drawer(rng, runs, d.classes, d.depth + 1)
    parameters = [f"x{i}" for i in range(len(given))]
    if opening:
        inner.line(opening)
        inner.statements.append(Statement((), tuple(inner.lines)))
    extra = ""
    if rng.random() < 0.3:
        name, value, code = rng.choice(ARGUMENTS)
        inner.globals[name] = eval(value, inner.globals)
        inner.draw(lambda each: each.new(code.format(x="x0")))
        parameters.append(f"{name}={value}")
        extra = rng.choice(["", f", {name}={value}", f", {value}"])
    wanted, tries = rng.randint(1, 4), 0
    while len(inner.statements) < wanted + bool(opening) and tries < 30:
        tries += 1
        inner.draw(rng.choices(CHOICES, WEIGHTS)[0])
    found = [name for name in inner.exposed if name not in parameters]
    if not found:
        raise Discard
    name = f"Block{d.depth}{d.number()}{rng.randint(0, 999)}"
    several = [each for each in found if not inner.used[each]][-2:]
    result = ", ".join(several) if len(several) == 2 and rng.random() < 0.4 else found[-1]
    scope = Scope(name, tuple(parameters), tuple(inner.statements), result)
    d.scopes.extend([*inner.scopes, scope])
    names = {**inner.globals, **d.classes}
    exec(scope.text(), names)
    d.classes[name] = d.globals[name] = names[name]
    layer = d.layer(rng.choice(["{}()", "{}()", "nn.ModuleList([{}()])[0]"]).format(name))
    if ", " in result:
        a, b = f"v{d.number()}", f"v{d.number()}"
        d.line(f"{a}, {b} = {layer}({', '.join(given)}{extra})")
        d.expose(a, b)
        return
    value = d.new(f"{layer}({', '.join(given)}{extra})")
    if len(given) == 1 and d.shape(value) == d.shape(x) and rng.random() < 0.4:
        d.new(f"{layer}({value}{extra})")


def branch(d: Drawer) -> None:
    """A block that branches on data or sizes."""
    block(d, opening=d.rng.choice(BRANCHES))


def open_branch(d: Drawer) -> None:
    """The model itself branches."""
    if d.rng.random() < 0.7:
        raise Discard  # seldom: nothing of the model can be traced then
    x = d.floats((2, 3, 4))
    d.line(d.rng.choice(BRANCHES).replace("x0", x))
    d.fresh.append(x)


def stack(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4)), d.rng
    width = d.length(x, -1)
    name = f"stack{d.number()}"
    each = rng.choice(
        [
            f"nn.Linear({width}, {width})",
            f"nn.Sequential(nn.Linear({width}, {width}), nn.ReLU())",
            f"nn.LayerNorm({width})",
        ]
    )
    value = d.new(f"{x} * 1.0", expose=False)
    kind = rng.choice(["list", "dict", "sequential", "index"])
    if kind == "dict":
        d.init(f"self.{name} = nn.ModuleDict({{key: {each} for key in ['b-1', 'a 2']}})")
        d.line(f"for key, each in self.{name}.items():\n    {value} = {value} + each({value})")
    elif kind == "sequential":
        d.init(f"self.{name} = nn.Sequential(*[{each} for _ in range(2)])")
        value = d.new(f"self.{name}({value})", expose=False)
    elif kind == "index":
        d.init(f"self.{name} = nn.ModuleList([{each}] * 2)")
        d.line(f"for i in range(len(self.{name})):\n    {value} = F.relu(self.{name}[i]({value}))")
    else:
        d.init(f"self.{name} = nn.ModuleList([{each} for _ in range(3)])")
        d.line(f"kept = []\nfor each in self.{name}:\n    kept.append(each({value}))\n{value} = sum(kept)")
    d.expose(value)


def argument(d: Drawer) -> None:
    """An argument of the model that is no tensor."""
    if d.depth:
        raise Discard
    found = [(name, code) for name, _, code in ARGUMENTS if name in d.runs[0]]
    if "mode" in d.runs[0]:  # the name of a function, or one that is compared
        found = [each for each in found if ("getattr" in each[1]) == hasattr(F, d.runs[0]["mode"])]
    if not found:
        raise Discard
    name, code = d.rng.choice(found)
    d.new(code.format(x=d.floats((2, 3, 4))))
    d.used[name] += 1


OPERATIONS = {block: 4, branch: 2.5, open_branch: 1, stack: 2, argument: 3}
