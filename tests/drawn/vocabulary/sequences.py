# ruff: noqa: E501  (lines of tables hold code)
"""Recurrent layers, cells, attention and transformers."""

from __future__ import annotations

from tests.drawn.drawer import Discard, Drawer

LEAST = ("float('-inf')", "-1e9", "-1e4", "torch.finfo(torch.float32).min")


def recurrent(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 3, 3, 3)), d.rng
    features, hidden, kind = d.length(x, -1), rng.choice([4, 8]), rng.choice(["LSTM", "LSTM", "GRU", "RNN"])
    layers, both = rng.choice([1, 1, 2]), rng.random() < 0.35
    first = len(d.shape(x)) == 3 and rng.random() < 0.7
    options = [str(features), str(hidden)]
    if layers > 1:
        options.append(f"num_layers={layers}")
    if both:
        options.append("bidirectional=True")
    if first:
        options.append("batch_first=True")
    if rng.random() < 0.15:
        options.append("bias=False")
    if kind == "RNN" and rng.random() < 0.4:
        options.append("nonlinearity='relu'")
    if kind == "LSTM" and rng.random() < 0.06:
        options.append("proj_size=3")
    if layers > 1 and rng.random() < 0.3:
        options.append("dropout=0.2")
    layer = d.layer(f"nn.{kind}({', '.join(options)})")
    state = ""
    if rng.random() < 0.35 and "proj_size=3" not in options:
        batch = "" if len(d.shape(x)) == 2 else f"{x}.shape[{0 if first else 1}], "
        zeros = f"{x}.new_zeros({layers * (1 + both)}, {batch}{hidden})"
        if rng.random() < 0.4:
            zeros = f"torch.zeros({layers * (1 + both)}, {batch}{hidden})"
        zeros = d.new(zeros, expose=False)
        if kind == "LSTM":
            other = zeros if rng.random() < 0.3 else d.new(f"{zeros} + 0.5", expose=False)
            state = f", ({zeros}, {other})"
        else:
            state = f", {zeros}"
    if rng.random() < 0.08:
        d.line(f"{layer}.flatten_parameters()")
    out, last = f"v{d.number()}", f"v{d.number()}"
    roll = rng.random()
    if roll < 0.3:
        d.line(f"{out} = {layer}({x}{state})[0]")
        d.expose(out)
    elif roll < 0.7 and kind == "LSTM":
        cell = f"v{d.number()}"
        d.line(f"{out}, ({last}, {cell}) = {layer}({x}{state})")
        d.expose(*rng.choice([(out,), (out, last), (out, last, cell), (cell, last)]))
    else:
        d.line(f"{out}, {last} = {layer}({x}{state})")
        if kind == "LSTM":
            found = d.new(f"{last}[{rng.choice([0, 1, -1])}]", expose=False)
            d.expose(out, found)
        else:
            d.expose(*rng.choice([(out,), (out, last), (last,)]))


def packed(d: Drawer) -> None:
    """Sequences of several lengths."""
    x, rng = d.floats(3), d.rng
    features, kind = d.length(x, -1), rng.choice(["LSTM", "GRU"])
    layer = d.layer(f"nn.{kind}({features}, 8, batch_first=True)")
    lengths = d.new(f"torch.arange({x}.shape[0]).clamp(max={x}.shape[1] - 1).add(1).flip([0])", expose=False)
    pack = d.new(f"nn.utils.rnn.pack_padded_sequence({x}, {lengths}, batch_first=True)", expose=False)
    out = d.new(f"{layer}({pack})[0]", expose=False)
    d.new(f"nn.utils.rnn.pad_packed_sequence({out}, batch_first=True, total_length={x}.shape[1])[0]")


def cell(d: Drawer) -> None:
    x, rng = d.floats((1, 2, 2, 2, 2)), d.rng
    kind = rng.choice(["LSTM", "GRU", "RNN"])
    layer = d.layer(f"nn.{kind}Cell({d.length(x, -1)}, 8)")
    if kind == "LSTM":
        one, other = f"v{d.number()}", f"v{d.number()}"
        d.line(f"{one}, {other} = {layer}({x})")
        d.expose(*rng.choice([(one,), (one, other)]))
    else:
        value = d.new(f"{layer}({x})")
        if rng.random() < 0.3:
            d.new(f"{layer}({x}, {value})")


def attention(d: Drawer) -> None:
    """nn.MultiheadAttention, with masks or without."""
    x, rng = d.floats(3), d.rng
    width = d.length(x, -1)
    heads = rng.choice([h for h in (1, 2, 4) if width % h == 0])
    first = rng.random() < 0.8
    options = f"{width}, {heads}{', batch_first=True' if first else ''}{rng.choice(['', '', ', bias=False', ', add_bias_kv=True', ', add_zero_attn=True'])}"
    layer = d.layer(f"nn.MultiheadAttention({options})")
    mask, size = "", f"{x}.shape[{1 if first else 0}]"
    roll = rng.random()
    if roll < 0.2:
        mask = f", attn_mask=torch.ones({size}, {size}, dtype=torch.bool).triu(1)"
    elif roll < 0.35:
        mask = f", attn_mask=torch.full(({size}, {size}), float('-inf')).triu(1)"
    elif roll < 0.5:
        batch = f"{x}.shape[{0 if first else 1}]"
        mask = f", key_padding_mask=(torch.arange({size}) > 2).expand({batch}, {size})"
    need = rng.choice(["", ", need_weights=False", ", average_attn_weights=False"])
    other = x if rng.random() < 0.7 else d.same(x)
    if need == ", need_weights=False" or rng.random() < 0.5:
        value = d.new(f"{layer}({x}, {other}, {other}{mask}{need})[0]", expose=False)
        if rng.random() < 0.4:
            value = d.new(f"{x} + {value}", expose=False)
        d.expose(value)
        return
    out, weights = f"v{d.number()}", f"v{d.number()}"
    d.line(f"{out}, {weights} = {layer}({x}, {other}, {other}{mask}{need})")
    d.expose(out, weights)


def heads(d: Drawer) -> None:
    """Attention written out: three linears, heads taken apart, scaled_dot_product_attention or its formula."""
    x, rng = d.floats(3), d.rng
    width = d.length(x, -1)
    count = rng.choice([h for h in (1, 2, 4) if width % h == 0])
    each = width // count
    b, n = f"v{d.number()}", f"v{d.number()}"
    if rng.random() < 0.5:
        d.line(f"{b}, {n}, _ = {x}.shape")
    else:
        d.line(f"{b}, {n} = {x}.shape[0], {x}.size(1)")
    form = rng.choice(["view", "unflatten", "reshape"])
    moved = rng.choice([".transpose(1, 2)", ".permute(0, 2, 1, 3)"])

    def apart(value: str) -> str:
        if form == "unflatten":
            return d.new(f"{value}.unflatten(-1, ({count}, {each})){moved}", expose=False)
        return d.new(f"{value}.{form}({b}, {n}, {count}, {each}){moved}", expose=False)

    if rng.random() < 0.35:
        joined = d.new(f"{d.layer(f'nn.Linear({width}, {3 * width})')}({x})", expose=False)
        q, k, v = (f"v{d.number()}" for _ in range(3))
        split = rng.choice(
            [f"{joined}.chunk(3, dim=-1)", f"{joined}.split({width}, dim=-1)", f"torch.chunk({joined}, 3, -1)"]
        )
        d.line(f"{q}, {k}, {v} = {split}")
        q, k, v = apart(q), apart(k), apart(v)
    else:
        q, k, v = (apart(d.new(f"{d.layer(f'nn.Linear({width}, {width})')}({x})", expose=False)) for _ in range(3))
    mask, roll = "", rng.random()
    if roll < 0.2:
        mask = d.new(f"torch.ones({n}, {n}, dtype=torch.bool).tril()", expose=False)
    elif roll < 0.35:
        mask = d.new(
            f"torch.zeros({n}, {n}).masked_fill(torch.ones({n}, {n}).triu(1) > 0, {rng.choice(LEAST)})", expose=False
        )
    if rng.random() < 0.6:
        extra = f", attn_mask={mask}" if mask else rng.choice(["", "", ", is_causal=True", ", scale=0.5"])
        out = d.new(f"F.scaled_dot_product_attention({q}, {k}, {v}{extra})", expose=False)
    else:
        key = rng.choice([f"{k}.transpose(-2, -1)", f"{k}.mT", f"{k}.transpose(2, 3)"])
        scores = d.new(f"torch.matmul({q}, {key}) {rng.choice(['/ math.sqrt(', '* (1 / '])}{each})", expose=False)
        if roll < 0.2:
            scores = d.new(
                f"{scores}.masked_fill(~{mask}, {rng.choice([*LEAST, f'torch.finfo({scores}.dtype).min'])})",
                expose=False,
            )
        elif mask:
            scores = d.new(f"{scores} + {mask}", expose=False)
        out = d.new(
            f"{rng.choice([f'{scores}.softmax(-1)', f'F.softmax({scores}, dim=-1)', f'torch.softmax({scores}, -1)'])} @ {v}",
            expose=False,
        )
    back = rng.choice(
        [
            f".transpose(1, 2).reshape({b}, {n}, {width})",
            f".permute(0, 2, 1, 3).contiguous().view({b}, {n}, -1)",
            ".transpose(1, 2).flatten(2)",
        ]
    )
    out = d.new(f"{d.layer(f'nn.Linear({width}, {width})')}({out}{back})", expose=False)
    d.expose(d.new(f"{x} + {out}", expose=False) if rng.random() < 0.5 else out)


def transformer(d: Drawer) -> None:
    x, rng = d.floats(3), d.rng
    width = d.length(x, -1)
    if width % 2:
        raise Discard
    options = (
        f"{width}, 2, 16{', batch_first=True' if rng.random() < 0.8 else ''}{rng.choice(['', ', norm_first=True'])}"
    )
    options += rng.choice(["", ", activation='gelu'", ", activation=F.silu", ", dropout=0.0"])
    roll = rng.random()
    if roll < 0.7:
        mask = (
            rng.choice(["", "", f", src_mask=nn.Transformer.generate_square_subsequent_mask({x}.shape[1])"])
            if "batch_first" in options
            else ""
        )
        d.new(f"{d.layer(f'nn.TransformerEncoderLayer({options})')}({x}{mask})")
    elif roll < 0.85:
        d.new(
            f"{d.layer(f'nn.TransformerEncoder(nn.TransformerEncoderLayer({options}), 2, enable_nested_tensor=False)')}({x})"
        )
    else:
        d.new(f"{d.layer(f'nn.TransformerDecoderLayer({options})')}({x}, {d.same(x)})")


OPERATIONS = {recurrent: 9, packed: 1, cell: 2, attention: 4, heads: 6, transformer: 3}
