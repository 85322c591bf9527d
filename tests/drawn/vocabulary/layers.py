"""Layers with weights, norms, tables and pools, as modules and as functions."""

from __future__ import annotations

import math

from tests.drawn.drawer import Discard, Drawer

PADDINGS = ("zeros", "reflect", "replicate", "circular")


def conv(d: Drawer) -> None:
    rank = d.rng.choice([1, 2, 2, 2, 3])
    x = d.floats(rank + 2)
    channels, rng = d.length(x, 1), d.rng
    spatial = min(d.least(x, dim) for dim in range(2, rank + 2))
    kernel = [rng.randint(1, min(3, spatial)) for _ in range(rank)]
    groups = rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * rng.choice([1, 2, 3]) if groups > 1 else rng.choice([2, 4, 5, 8, 16])
    options = {"kernel_size": tuple(kernel) if rng.random() < 0.5 else kernel[0]}
    if rng.random() < 0.4:
        options["padding"] = rng.choice(["same", "valid", 1, tuple(rng.randint(0, 1) for _ in range(rank))])
    if options.get("padding") != "same" and rng.random() < 0.35:
        options["stride"] = rng.choice([2, tuple(rng.randint(1, 2) for _ in range(rank))])
    if rng.random() < 0.25:
        options["dilation"] = rng.choice([2, tuple(rng.randint(1, 2) for _ in range(rank))])
    if rng.random() < 0.25:
        options["bias"] = False
    if groups > 1:
        options["groups"] = groups
    if rng.random() < 0.2:
        weight = d.parameter(out, channels // groups, *(kernel), scale=(channels // groups * math.prod(kernel)) ** -0.5)
        options.pop("kernel_size")
        bias = d.parameter(out, scale=0.2) if options.pop("bias", True) else "None"
        found = ", ".join(f"{key}={value!r}" for key, value in options.items())
        call = f"{rng.choice(['F', 'torch'])}.conv{rank}d({x}, {weight}, {bias}, {found})"
    else:
        if "padding" in options and rng.random() < 0.35:
            options["padding_mode"] = rng.choice(PADDINGS)
        found = ", ".join(f"{key}={value!r}" for key, value in options.items())
        layer = d.layer(f"nn.Conv{rank}d({channels}, {out}, {found})")
        call = f"{layer}({x})" if rng.random() < 0.95 else f"{layer}(input={x})"
    follow(
        d,
        d.new(call, expose=False),
        f"nn.BatchNorm{rank}d({out}{rng.choice(['', '', ', affine=False', ', eps=1e-3'])})",
    )


def follow(d: Drawer, value: str, norm: str = "") -> None:
    """What often comes after a layer with weights."""
    if norm and d.rng.random() < 0.35:
        value = d.new(f"{d.layer(norm)}({value})", expose=False)
    roll = d.rng.random()
    if roll < 0.3:
        value = d.new(
            d.rng.choice(["F.relu({})", "torch.relu({})", "{}.relu()", "F.relu({}, inplace=True)"]).format(value)
        )
    elif roll < 0.45:
        layer = d.layer(d.rng.choice(["nn.ReLU()", "nn.ReLU(inplace=True)", "nn.ReLU6()", "nn.GELU()", "nn.SiLU()"]))
        value = d.new(f"{layer}({value})")
    else:
        d.expose(value)


def conv_transpose(d: Drawer) -> None:
    rank = d.rng.choice([1, 2, 2, 3])
    x = d.floats(rank + 2)
    channels, rng = d.length(x, 1), d.rng
    groups = rng.choice([g for g in (1, 1, 2) if channels % g == 0])
    out, kernel, stride = groups * rng.choice([1, 2, 4]), rng.randint(1, 3), rng.randint(1, 2)
    options = f"{kernel}, stride={stride}, padding={rng.choice([0, 0, 1]) if kernel > 2 else 0}, groups={groups}"
    if stride > 1 and rng.random() < 0.4:
        options += ", output_padding=1"
    if rng.random() < 0.3:
        options += ", bias=False"
    if rng.random() < 0.15:
        options += ", dilation=2"
    follow(
        d,
        d.new(f"{d.layer(f'nn.ConvTranspose{rank}d({channels}, {out}, {options})')}({x})", expose=False),
        f"nn.BatchNorm{rank}d({out})",
    )


def linear(d: Drawer) -> None:
    x, rng = d.floats((1, 2, 2, 3, 3, 4, 5)), d.rng
    features = d.length(x, -1)
    out = rng.choice([1, 4, 8, 8, 12, 16, features])
    roll = rng.random()
    if roll < 0.12:
        bias = d.parameter(out, scale=0.2) if rng.random() < 0.7 else None
        weight = d.parameter(out, features, scale=features**-0.5)
        call = f"F.linear({x}, {weight}{', ' + bias if bias else ''})"
    elif roll < 0.16:
        layer = d.layer(f"nn.Linear({features}, {out})")
        call = f"F.linear({x}, {layer}.weight, {layer}.bias) + {layer}({x})"
    elif roll < 0.2 and len(d.shape(x)) == 2:
        call = f"torch.addmm({d.parameter(out, scale=0.2)}, {x}, {d.parameter(features, out, scale=features**-0.5)})"
    else:
        layer = d.layer(f"nn.Linear({features}, {out}{', bias=False' if rng.random() < 0.25 else ''})")
        if features == out:
            d.shared.append((layer, str(features)))
        call = f"{layer}({x})" if rng.random() < 0.95 else f"{layer}(input={x})"
    norm = f"nn.BatchNorm1d({out})" if len(d.shape(x)) == 2 and rng.random() < 0.4 else f"nn.LayerNorm({out})"
    follow(d, d.new(call, expose=False), norm if out > 1 else "")


def again(d: Drawer) -> None:
    """A layer that was called before."""
    if not d.shared:
        raise Discard
    layer, features = d.rng.choice(d.shared)
    x = d.floats((1, 2, 3, 4, 5), lambda name: d.fixed(name, -1) and d.shape(name)[-1] == int(features))
    d.new(f"{layer}({x})")


def mlp(d: Drawer) -> None:
    """A Sequential with names."""
    x, rng = d.floats((2, 3, 4)), d.rng
    features = d.length(x, -1)
    hidden, out = rng.choice([8, 16]), rng.choice([features, 8])
    act = rng.choice(["nn.ReLU()", "nn.GELU()", "nn.Tanh()", "nn.Hardswish()", "nn.Dropout(0.1)", "nn.Identity()"])
    parts = [f"nn.Linear({features}, {hidden})", act, f"nn.Linear({hidden}, {out})"]
    if rng.random() < 0.5:
        code = f"nn.Sequential({', '.join(parts)})"
    else:
        names = rng.choice([("fc-1", "act", "fc.2".replace(".", "_")), ("0", "b c", "2"), ("in", "forward_", "out")])
        code = f"nn.Sequential(OrderedDict([{', '.join(f'({n!r}, {p})' for n, p in zip(names, parts, strict=True))}]))"
    value = d.new(f"{d.layer(code)}({x})", expose=False)
    if out == features and rng.random() < 0.5:
        value = d.new(f"{x} + {value}", expose=False)
    d.expose(value)


def bilinear(d: Drawer) -> None:
    x = d.floats((2, 3))
    y = d.floats(len(d.shape(x)), lambda o: all(a[x].shape[:-1] == a[o].shape[:-1] for a in d.runs))
    d.new(f"{d.layer(f'nn.Bilinear({d.length(x, -1)}, {d.length(y, -1)}, 4)')}({x}, {y})")


def norm(d: Drawer) -> None:
    rng = d.rng
    kind = rng.choice(
        ["batch", "layer", "layer", "layer", "group", "instance", "rms", "response", "f_layer", "f_group", "normalize"]
    )
    x = d.floats(
        {
            "batch": (2, 3, 4, 5),
            "instance": (3, 4, 5),
            "group": (2, 3, 4, 5),
            "f_group": (2, 3, 4),
            "response": (3, 4),
        }.get(kind, (2, 3, 4))
    )
    rank = len(d.shape(x))
    eps = rng.choice(["", "", ", eps=1e-3", ", eps=0.1", ", eps=1.0"])
    if kind == "batch":
        name = {2: 1, 3: 1, 4: 2, 5: 3}[rank]
        code = f"nn.BatchNorm{name}d({d.length(x, 1)}{eps}{rng.choice(['', ', affine=False'])})"
    elif kind in ("layer", "rms"):
        count = rng.randint(1, min(2, rank - 1))
        shape = [d.length(x, dim) for dim in range(-count, 0)]
        given = shape[0] if count == 1 and rng.random() < 0.7 else shape
        if kind == "layer":
            code = f"nn.LayerNorm({given}{eps}{rng.choice(['', ', elementwise_affine=False', ', bias=False'])})"
        else:
            code = f"nn.RMSNorm({given}{eps}{rng.choice(['', ', elementwise_affine=False'])})"
    elif kind in ("group", "f_group"):
        channels = d.length(x, 1)
        groups = rng.choice([g for g in (1, 2, 4, channels) if channels % g == 0])
        if rank == 2 and groups == channels:
            raise Discard
        if kind == "f_group":
            d.new(f"F.group_norm({x}, {groups}{eps})")
            return
        code = f"nn.GroupNorm({groups}, {channels}{eps}{rng.choice(['', ', affine=False'])})"
    elif kind == "instance":
        if math.prod(d.least(x, dim) for dim in range(2, rank)) < 2:
            raise Discard
        options = rng.choice(["", ", affine=True", ", affine=True, track_running_stats=True"])
        code = f"nn.InstanceNorm{rank - 2}d({d.length(x, 1)}{eps}{options})"
    elif kind == "response":
        code = f"nn.LocalResponseNorm({rng.choice([2, 3])})"
    elif kind == "f_layer":
        features = d.length(x, -1)
        weight = "None" if rng.random() < 0.5 else d.parameter(features)
        d.new(f"F.layer_norm({x}, ({features},), {weight}, None{eps})")
        return
    else:
        d.new(f"F.normalize({x}, dim={rng.choice([-1, 1])})")
        return
    d.new(f"{d.layer(code)}({x})")


def embedding(d: Drawer) -> None:
    ids = d.indices((1, 2, 3))
    rows = max(int(run[ids].max()) for run in d.runs) + d.rng.choice([1, 5])
    rows = max(rows, 16)
    width = d.rng.choice([4, 8])
    kind = d.rng.random()
    if kind < 0.7:
        options = d.rng.choice(["", ", padding_idx=0"])
        d.new(f"{d.layer(f'nn.Embedding({rows}, {width}{options})')}({ids})")
    elif kind < 0.8:
        d.new(f"F.embedding({ids}, {d.parameter(rows, width)})")
    else:
        if len(d.shape(ids)) != 2:
            raise Discard
        mode = d.rng.choice(["sum", "mean", "max"])
        d.new(f"{d.layer(f'nn.EmbeddingBag({rows}, {width}, mode={mode!r})')}({ids})")


def pool(d: Drawer) -> None:
    rank, rng = d.rng.choice([1, 2, 2, 3]), d.rng
    x = d.floats(rank + 2)
    spatial = min(d.least(x, dim) for dim in range(2, rank + 2))
    kind = rng.choice(["max", "avg", "adaptive_avg", "adaptive_max", "lp"])
    if spatial < 2:
        raise Discard
    if kind.startswith("adaptive"):
        size = rng.choice([1, 2, "None"]) if rank > 1 else rng.choice([1, 2])
        size = f"({', '.join(['None', *['2'] * (rank - 1)])})" if size == "None" else size
        if rng.random() < 0.5:
            name = "Adaptive" + kind[9:].title() + f"Pool{rank}d"
            d.new(f"{d.layer(f'nn.{name}({size})')}({x})")
        else:
            d.new(f"F.{kind}_pool{rank}d({x}, {size})")
        return
    kernel = rng.randint(2, min(3, spatial))
    options = f"{kernel}, {rng.randint(1, 2)}"
    if kind == "lp":
        if rank == 3:
            raise Discard
        d.new(f"{d.layer(f'nn.LPPool{rank}d(2, {options})')}({x}.abs() + 0.1)")
        return
    options += f", padding={rng.randint(0, 1)}, ceil_mode={rng.random() < 0.4}"
    if kind == "avg":
        options += f", count_include_pad={rng.random() < 0.6}"
        if rank > 1 and rng.random() < 0.2:
            options += ", divisor_override=3"
    elif rng.random() < 0.2 and spatial > 4:
        options += ", dilation=2"
    if rng.random() < 0.5:
        d.new(f"{d.layer(f'nn.{kind.title()}Pool{rank}d({options})')}({x})")
    else:
        d.new(f"F.{kind}_pool{rank}d({x}, {options})")


OPERATIONS = {conv: 14, conv_transpose: 3, linear: 14, again: 3, mlp: 4, bilinear: 1, norm: 7, embedding: 5, pool: 5}
