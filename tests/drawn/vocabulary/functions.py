# ruff: noqa: E501  (lines of tables hold code)
"""Activations, arithmetic, reductions, comparisons, products of tensors and conversions."""

from __future__ import annotations

from tests.drawn.drawer import Discard, Drawer

MODULES = (
    "nn.ReLU()", "nn.ReLU(inplace=True)", "nn.ReLU6()", "nn.LeakyReLU(0.2)", "nn.ELU()", "nn.ELU(0.5)", "nn.CELU()",
    "nn.SELU()", "nn.GELU()", "nn.GELU(approximate='tanh')", "nn.SiLU()", "nn.Mish()", "nn.Sigmoid()", "nn.Tanh()",
    "nn.Hardtanh()", "nn.Hardtanh(-0.5, 2.0)", "nn.Hardswish()", "nn.Hardsigmoid()", "nn.Softplus()",
    "nn.Softplus(2, 10)", "nn.Softsign()", "nn.Softshrink(0.2)", "nn.Hardshrink(0.2)", "nn.Tanhshrink()",
    "nn.LogSigmoid()", "nn.RReLU()", "nn.Threshold(0.1, 0.0)", "nn.PReLU()", "nn.Softmax(-1)", "nn.Softmax(dim=1)",
    "nn.LogSoftmax(dim=-1)", "nn.Softmin(dim=-1)", "nn.Dropout(0.3)", "nn.Identity()", "nn.AlphaDropout(0.1)",
    "nn.FeatureAlphaDropout(0.1)",
)  # fmt: skip
FUNCTIONS = (
    "F.relu", "F.relu6", "F.leaky_relu", "F.elu", "F.selu", "F.gelu", "F.silu", "F.mish", "F.hardswish",
    "F.hardsigmoid", "F.hardtanh", "F.softplus", "F.softsign", "F.logsigmoid", "torch.sigmoid", "torch.tanh", "torch.sin",
    "torch.cos", "torch.erf", "torch.square", "torch.abs", "torch.neg", "torch.atan", "torch.sinh", "torch.relu",
    "torch.asinh", "torch.expm1", "torch.sinc", "torch.nan_to_num", "torch.positive", "torch.clone",
)  # fmt: skip
EXPRESSIONS = (
    "{x}.sigmoid()", "{x}.tanh()", "{x}.clamp(-1, 1)", "{x}.clamp(min=0)", "torch.clamp({x}, max=0.8)", "{x}.clip(-2, 2)",
    "torch.clamp(input={x}, min=-1.0, max=1.0)", "torch.exp(-{x}.abs())", "{x}.abs().sqrt()", "({x} * {x} + 1).rsqrt()",
    "torch.log({x}.abs() + 1)", "{x}.abs().add(0.1).log()", "F.leaky_relu({x}, negative_slope=0.3)",
    "F.softmax({x}, dim=-1)", "{x}.softmax(dim=1)", "torch.log_softmax({x}, 1)", "F.softmin({x}, -1)",
    "torch.reciprocal({x}.abs() + 1)", "1 / ({x}.exp().clamp(max=50) + 1)", "{x}.pow(2)", "{x} ** 2", "torch.pow({x}, 3) / 4",
    "{x}.abs() ** 0.5", "F.dropout({x}, 0.2, self.training)", "F.threshold({x}, 0.0, 0.0)", "F.hardtanh({x}, -0.5, 0.5)",
    "{x}.relu_()", "F.celu({x}, alpha=0.7)", "F.prelu({x}, torch.tensor([0.25]))", "torch.logit(torch.sigmoid({x}), eps=1e-4)",
    "torch.cumsum({x}, dim=-1) / 4", "{x}.cumsum(1).tanh()", "torch.logaddexp({x}, {x} * 0.5)", "{x}.sub({x}.mean(-1, keepdim=True))",
    "{x} - {x}.amax(dim=-1, keepdim=True)", "F.gelu({x}, approximate='tanh')", "{x}.contiguous()", "{x}.detach()",
    "torch.diff({x}, dim=-1, prepend={x}[..., :1])", "torch.tril({x})", "{x}.triu()", "torch.rsub({x}, 1.5)",
)  # fmt: skip
NUMBERS = (
    "{x} + 0.5", "{x} - 1", "2 - {x}", "{x} * 0.5", "{x} * -2", "3 * {x}", "{x} / 4", "{x} / 0.7", "-{x}", "1 + {x}",
    "torch.add({x}, 0.25)", "torch.mul({x}, 0.3)", "torch.sub({x}, 0.5, alpha=2)", "torch.div({x}, 2)", "{x}.add(1)",
    "{x}.mul(1.5)", "torch.true_divide({x}, 3)", "operator.mul({x}, 0.5)", "{x} + torch.tensor(0.5)", "{x} * math.pi",
    "{x} + True", "{x}.sub(2, alpha=0.1)", "torch.add(input={x}, other=0.5)", "{x} / math.sqrt({x}.shape[-1])",
    "{x} * {x}.shape[-1] ** -0.5", "{x} + {x}.shape[0]", "{x} * float({x}.dim())", "{x} / len({x})",
)  # fmt: skip
PAIRS = (
    "{x} + {y}", "{x} - {y}", "{x} * {y}", "torch.add({x}, {y})", "{x}.add({y}, alpha=0.5)", "torch.mul({x}, {y})",
    "{x}.mul({y})", "torch.sub({x}, {y}, alpha=2)", "torch.maximum({x}, {y})", "torch.minimum({x}, {y})",
    "F.relu({x} + {y})", "torch.relu(torch.add({x}, {y}))", "{x} / ({y}.abs() + 1)", "torch.lerp({x}, {y}, 0.3)",
    "torch.addcmul({x}, {x}, {y}, value=0.5)", "torch.where({x} > {y}, {x}, {y})", "{x} * torch.sigmoid({y})",
    "{x} * (1 + {y})", "torch.hypot({x}, {y})", "operator.add({x}, {y})", "torch.add(input={x}, other={y})",
    "{x}.maximum({y})", "torch.fmax({x}, {y})", "{x} + {y} + {x}", "sum([{x}, {y}])", "torch.xlogy({x}, {y}.abs() + 1)",
    "torch.where({x} > 0, {x}, {y})", "{x}.masked_fill({y} > 0.5, 0.0)", "torch.addcdiv({x}, {x}, {y}.abs() + 1)",
)  # fmt: skip


def activation(d: Drawer) -> None:
    code = d.rng.choice(MODULES)
    x = d.floats((2, 3, 4, 5), None)
    if code == "nn.PReLU()" and d.rng.random() < 0.5:
        code = f"nn.PReLU({d.length(x, 1)})"
    d.new(f"{d.layer(code)}({x})")


def glu(d: Drawer) -> None:
    x = d.floats((2, 3, 4), lambda name: d.fixed(name, -1) and d.shape(name)[-1] % 2 == 0)
    d.new(d.chosen([f"F.glu({x})", f"F.glu({x}, dim=-1)", f"@nn.GLU()@({x})"]))


def function(d: Drawer) -> None:
    d.new(f"{d.rng.choice(FUNCTIONS)}({d.floats()})")


def expression(d: Drawer) -> None:
    code = d.rng.choice(EXPRESSIONS)
    ranks = (2, 3) if "tri" in code else (2, 3, 4, 5)
    d.new(code.format(x=d.floats(ranks)))


def number(d: Drawer) -> None:
    d.new(d.rng.choice(NUMBERS).format(x=d.floats((1, 2, 3, 4, 5))))


def pair(d: Drawer) -> None:
    x = d.floats()
    d.new(d.rng.choice(PAIRS).format(x=x, y=d.same(x)))


def broadcast(d: Drawer) -> None:
    x = d.floats((1, 2, 3, 4, 5))
    y = d.fits(x)
    code = d.rng.choice(["{x} + {y}", "{y} * {x}", "{x} - {y}", "torch.mul({x}, {y})", "{x} * torch.sigmoid({y})"])
    d.new(code.format(x=x, y=y))


def gate(d: Drawer) -> None:
    """A value gated by a part or a mean of itself."""
    x = d.floats((3, 4))
    rest = tuple(range(2, len(d.shape(x))))
    by = d.rng.choice([f"{x}.mean({rest}, keepdim=True)", f"{x}{'[:, :, :1' + ', :1' * (len(rest) - 1) + ']'}", f"{x}[:, :1]",
                       f"{x}.amax({rest}, keepdim=True)"])  # fmt: skip
    d.new(d.rng.choice([f"{x} * {by}", f"{x} + {by}", f"{x} * torch.sigmoid({by})", f"torch.mul({by}, {x})"]))


def own(d: Drawer) -> None:
    """A parameter or buffer of the module's own."""
    x = d.floats((2, 3, 4))
    width = d.length(x, -1)
    which = d.rng.choice(["parameter", "buffer", "positions", "scalar"])
    if which == "parameter":
        d.new(f"{x} {d.rng.choice('+*')} {d.parameter(width)}")
    elif which == "buffer":
        d.new(f"{x} {d.rng.choice('+*')} {d.buffer(f'torch.linspace(-1, 1, {width})', d.rng.random() < 0.7)}")
    elif which == "scalar":
        d.new(f"{x} * {d.parameter(1)}")
    else:
        table = d.buffer(f"torch.randn(1, 64, {width})")
        if len(d.shape(x)) != 3:
            raise Discard
        d.new(f"{x} + {table}[:, :{x}.size(1)]")


def reduction(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4, 5)), d.rng
    rank = len(d.shape(x))
    dim = rng.choice([-1, 1, rank - 1, (1,), (1, -1) if rank > 2 else -1, 0 if rng.random() < 0.1 else -1])
    name = rng.choice(
        ["mean", "mean", "sum", "amax", "amin", "std", "var", "norm", "logsumexp", "max", "min", "prod", "median"]
    )
    keep = rng.choice(["", ", keepdim=True"])
    if name in ("max", "min", "prod", "median") and isinstance(dim, tuple):
        dim = dim[0]
    if name in ("std", "var") and rng.random() < 0.5:
        keep += ", unbiased=False"
    if name == "norm":
        d.new(rng.choice([f"{x}.norm(dim={dim!r}{keep})", f"torch.linalg.vector_norm({x}, dim={dim!r}{keep})"]))
    elif name in ("max", "min", "median"):
        d.new(rng.choice([f"{x}.{name}(dim={dim}{keep})[0]", f"torch.{name}({x}, dim={dim}{keep}).values"]))
    elif rng.random() < 0.3:
        d.new(f"torch.{name}({x}, dim={dim!r}{keep})")
    else:
        d.new(f"{x}.{name}({dim!r}{keep})")


def product(d: Drawer) -> None:
    """Products of two values, or of a value with itself."""
    x, rng = d.floats((2, 3, 4)), d.rng
    rank = len(d.shape(x))
    scale = f" / {d.shape(x)[-1] ** 0.5:.3f}"
    kind = rng.choice(["self", "einsum", "other", "bmm", "outer", "weights"])
    if kind == "self":
        d.new(rng.choice([f"{x} @ {x}.transpose(-1, -2)", f"torch.matmul({x}, {x}.mT)"]) + scale)
    elif kind == "weights":
        d.new(f"{x} @ {d.parameter(d.length(x, -1), 6)}" + scale)
    elif kind == "bmm":
        if rank != 3:
            raise Discard
        d.new(rng.choice([f"torch.bmm({x}, {x}.transpose(1, 2))", f"{x}.bmm({x}.mT)"]) + scale)
    elif kind == "outer":
        d.new(f"{x}.unsqueeze(-1) * {x}.unsqueeze(-2)")
    elif kind == "einsum":
        code = {
            2: ["bi,bj->bij", "bi,bi->b"],
            3: ["bid,bjd->bij", "bid,bie->bde", "bic,bic->bi"],
            4: ["bhid,bhjd->bhij", "bchw,bchw->bc"],
        }
        d.new(f"torch.einsum({rng.choice(code[rank])!r}, {x}, {d.same(x) if rng.random() < 0.5 else x})" + scale)
    else:
        y = d.floats(
            rank, lambda o: all(a[x].shape[:-2] == a[o].shape[:-2] and a[x].shape[-1] == a[o].shape[-2] for a in d.runs)
        )
        d.new(f"torch.matmul({x}, {y})" + scale)


def mask(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4)), d.rng
    condition = rng.choice(
        [
            f"{x} > 0",
            f"{x}.abs() < 2",
            f"({x} < 1) & ({x} > -1)",
            f"~({x} >= 0.5)",
            f"{x}.gt(0.1)",
            f"torch.le({x}, 0)",
            f"{x} != 0",
        ]
    )
    code = rng.choice(["{x}.masked_fill({c}, 0.0)", "torch.where({c}, {x}, torch.zeros_like({x}))", "torch.where({c}, {x}, 0.1 * {x})",
                       "{x} * ({c})", "{x} * ({c}).float()", "{x}.masked_fill({c}, -1e4).softmax(-1)", "torch.where({c}, {x}, 0.0)"])  # fmt: skip
    d.new(code.format(x=x, c=condition))


def given_mask(d: Drawer) -> None:
    """A mask that the model is called with, (batch, length)."""
    m = d.masks(lambda name: len(d.shape(name)) == 2)
    x = d.floats(3, lambda name: all(run[name].shape[:2] == run[m].shape for run in d.runs))
    d.new(d.rng.choice([f"{x}.masked_fill(~{m}.unsqueeze(-1), 0.0)", f"{x} * {m}[..., None]", f"torch.where({m}[:, :, None], {x}, -{x})",
                        f"({x} * {m}.unsqueeze(-1).float()).sum(1) / {m}.sum(1, keepdim=True).clamp(min=1)"]))  # fmt: skip


def convert(d: Drawer) -> None:
    """Another dtype for a while."""
    x, rng = d.floats((2, 3, 4)), d.rng
    to = rng.choice(
        [
            "half()",
            "bfloat16()",
            "double()",
            "to(torch.float16)",
            "to(torch.bfloat16)",
            "type(torch.float64)",
            "to(dtype=torch.double)",
        ]
    )
    between = rng.choice(["", ".mul(2)", ".relu()", " + 1", ".sum(-1, keepdim=True)"])
    if rng.random() < 0.25:
        dtype = rng.choice(["torch.bfloat16", "torch.float64"])
        layer = d.layer(f"nn.Linear({d.length(x, -1)}, 8, dtype={dtype})")
        d.new(f"{layer}({x}.to({dtype})).float()")
    else:
        d.new(
            f"({x}.{to}{between}){rng.choice(['.float()', '.to(torch.float32)', f'.to({x}.dtype)', f'.type_as({x})'])}"
        )


def index(d: Drawer) -> None:
    """Indices that floats become, sorted values, gathered values."""
    x, rng = d.floats((2, 3)), d.rng
    code = rng.choice([
        "{x}.gather(-1, {x}.argmax(-1, keepdim=True))", "{x}.topk(2, dim=-1)[0]", "torch.topk({x}, k=1, dim=-1).values",
        "{x}.sort(dim=-1)[0]", "torch.sort({x}, dim=-1, descending=True).values", "{x}.argsort(dim=-1).float() / 4 + {x}",
        "F.one_hot({x}.argmax(-1), {x}.shape[-1]).float() + {x}", "{x}.scatter(-1, {x}.argmax(-1, keepdim=True), 0.5)",
    ])  # fmt: skip
    if rng.random() < 0.35:
        ids = f"v{d.number()}"
        width = d.length(x, -1)
        d.line(f"{ids} = (torch.arange({x}.shape[1]).float().add(1).log() / 0.7).to(torch.long).clamp(0, 7)")
        table = d.layer(f"nn.Embedding(8, {width})")
        value = f"{table}({ids})"
        if len(d.shape(x)) != 3:
            raise Discard
        d.new(f"{x} + {value}")
        return
    d.new(code.format(x=x))


def complexes(d: Drawer) -> None:
    x = d.floats((2, 3), lambda name: d.fixed(name, -1))
    width = d.length(x, -1)
    if d.rng.random() < 0.5 and width % 2 == 0:
        z = d.new(f"torch.view_as_complex({x}.unflatten(-1, (-1, 2)).contiguous())", expose=False)
        d.new(f"torch.view_as_real({z} * {z}).flatten(-2)")
    else:
        d.new(f"torch.fft.rfft({x}, dim=-1).abs() / {width}")


def join(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4)), d.rng
    rank = len(d.shape(x))
    if rng.random() < 0.25:
        y = d.same(x)
        d.new(
            rng.choice(
                [f"torch.stack([{x}, {y}], dim=1)", f"torch.stack(({x}, {y}, {x}), -1)", f"torch.hstack([{x}, {y}])"]
            )
        )
        return
    dim = rng.choice([1, -1])
    axis = dim % rank

    def alike(other: str) -> bool:
        shapes = [(run[x].shape, run[other].shape) for run in d.runs]
        return all(len(a) == len(b) and a[:axis] == b[:axis] and a[axis + 1 :] == b[axis + 1 :] for a, b in shapes)

    others = [d.floats(rank, alike) for _ in range(rng.choice([1, 1, 2]))]
    code = rng.choice(
        [
            "torch.cat([{}], dim={})",
            "torch.cat(({}), {})",
            "torch.concat([{}], axis={})",
            "torch.cat(tensors=[{}], dim={})",
        ]
    )
    d.new(code.format(", ".join([x, *others]), dim))


OPERATIONS = {
    activation: 9, glu: 1, function: 5, expression: 5, number: 4, pair: 7, broadcast: 2, gate: 2, own: 3, reduction: 4,
    product: 3, mask: 2, given_mask: 2, convert: 1.5, index: 1.5, complexes: 0.5, join: 5,
}  # fmt: skip
