# ruff: noqa: E501  (lines of tables hold code)
"""Views, slices and whatever else moves elements; writes in place; pieces; interpolation and padding."""

from __future__ import annotations

from tests.drawn.drawer import Discard, Drawer


def view(d: Drawer) -> None:
    x = d.floats((2, 3, 4, 5))
    rank = len(d.shape(x))
    b = d.size(x, 0)
    found = [
        f"torch.flatten({x}, 1)", f"{x}.flatten(1)", f"{x}.reshape({b}, -1)", f"torch.flatten(input={x}, start_dim=1)",
        f"torch.reshape({x}, ({b}, -1))", f"@nn.Flatten()@({x})", f"{x}.contiguous().view({b}, -1)",
        f"{x}.view({b}, -1)", f"{x}.view(size=({b}, -1))", f"{x}.reshape(shape=({b}, -1))", f"{x}.flatten(start_dim=1)",
    ]  # fmt: skip
    if rank >= 3:
        last = d.size(x, rank - 1)
        found += [f"{x}.flatten(-2)", f"{x}.flatten(0, 1)", f"{x}.reshape(-1, {last})", f"{x}.view(-1, {last})", f"{x}.transpose(1, 2)",
                  f"torch.transpose({x}, 1, -1)", f"{x}.mT", f"{x}.swapaxes(1, 2)", f"{x}.movedim(1, -1)", f"torch.permute({x}, {(0, *range(2, rank), 1)})",
                  f"{x}.permute({', '.join(map(str, [0, *range(rank - 1, 0, -1)]))})", f"{x}.view({b}, {d.size(x, 1)}, -1)"] * 2  # fmt: skip
    if d.fixed(x, -1) and d.shape(x)[-1] % 2 == 0:
        half = d.shape(x)[-1] // 2
        found += [f"{x}.unflatten(-1, (2, {half}))", f"{x}.reshape(*{x}.shape[:-1], 2, {half})", f"@nn.Unflatten({rank - 1}, (2, {half}))@({x})",
                  f"{x}.view({x}.size()[:-1] + ({half}, 2))", f"torch.unflatten({x}, -1, (-1, 2))"]  # fmt: skip
    found += [
        f"{x}.unsqueeze(1)",
        f"{x}[:, None]",
        f"{x}[..., None].squeeze(-1)",
        f"{x}.unsqueeze(1).squeeze(1)",
        f"torch.unsqueeze({x}, dim=-1)",
        f"{x}.view_as({x})",
    ]
    d.new(d.chosen(found))


def cut(d: Drawer) -> None:
    """A part of a value."""
    x, rng = d.floats((2, 3, 4, 5)), d.rng
    rank = len(d.shape(x))
    dim = rng.randint(1, rank - 1)
    least = d.least(x, dim)
    if least < 2:
        raise Discard
    lead = ":, " * dim
    stop = rng.randint(1, least - 1)
    found = [
        f"{x}[{lead}:{stop}]", f"{x}[{lead}{stop}:]", f"{x}[{lead}::2]", f"{x}[{lead}-{stop}:]", f"{x}[..., 1:]", f"{x}[..., ::2]",
        f"{x}.narrow({dim}, 0, {stop})", f"torch.narrow({x}, {dim}, 1, {least - 1})", f"{x}.index_select({dim}, torch.tensor([1, 0]))",
        f"{x}[{lead}[1, 0]]", f"{x}[{lead}: {x}.shape[{dim}] - 1]", f"{x}[{lead}slice(0, {stop})]", f"{x}[{lead}torch.tensor([0, 1, 1])]",
    ]  # fmt: skip
    if rank > 2:
        found += [
            f"{x}[{lead}0]",
            f"{x}[{lead}-1]",
            f"{x}.select({dim}, 0)",
            f"torch.select({x}, {dim}, -1)",
            f"{x}[..., -1]",
            f"{x}.unbind({dim})[0]",
        ] * 2
    d.new(d.chosen(found))


def move(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4)), d.rng
    rank = len(d.shape(x))
    ones = ", ".join(["1"] * (rank - 1))
    d.new(rng.choice([
        f"{x}.roll(1, -1)", f"torch.roll({x}, (1, -1), dims=(1, -1))" if rank > 2 else f"{x}.roll(1, 1)", f"{x}.flip([1])", f"torch.flip({x}, (-1,))",
        f"{x}.repeat({ones}, 2)", f"torch.tile({x}, (2,))", f"{x}.repeat_interleave(2, dim=1)", f"torch.repeat_interleave({x}, 2, -1)",
        f"{x}.unsqueeze(1).expand(-1, 2, {', '.join(['-1'] * (rank - 1))})", f"{x}[:, None].expand({x}.shape[0], 2, *{x}.shape[1:])",
        f"torch.rot90({x}, 1, (1, -1))" if rank > 2 else f"{x}.fliplr()", f"torch.broadcast_to({x}, {x}.shape)", f"{x}.clone()",
        f"{x}.expand_as({x})", f"{x}.contiguous()",
    ]))  # fmt: skip


def pieces(d: Drawer) -> None:
    x, rng = d.floats((2, 3, 4)), d.rng
    rank = len(d.shape(x))
    dim = rng.choice([1, -1])
    length = d.length(x, dim)
    if length % 2:
        raise Discard
    half = length // 2
    a, b = f"v{d.number()}", f"v{d.number()}"
    if rng.random() < 0.2 and rank > 2 and length <= 4:
        parts = d.new(
            rng.choice([f"{x}.unbind({dim})", f"torch.unbind({x}, {dim})", f"list({x}.unbind(dim={dim}))"]),
            expose=False,
        )
        d.new(
            rng.choice(
                [
                    f"{parts}[0]",
                    f"sum({parts})",
                    f"torch.stack({parts}[::-1], 1)",
                    f"torch.cat([{parts}[-1], {parts}[0]], -1)",
                ]
            )
        )
        return
    split = rng.choice([f"{x}.chunk(2, {dim})", f"torch.chunk({x}, 2, dim={dim})", f"{x}.split({half}, {dim})", f"torch.split({x}, [{half}, {half}], dim={dim})",
                        f"torch.tensor_split({x}, 2, dim={dim})", f"{x}.split([{half}, {half}], {dim})", f"torch.chunk(input={x}, chunks=2, dim={dim})"])  # fmt: skip
    roll = rng.random()
    if roll < 0.5:
        d.line(f"{a}, {b} = {split}")
        d.expose(*rng.choice([(a, b), (a,), (b,), (b, a)]))
    elif roll < 0.7:
        d.line(f"{a} = {split}")
        d.new(f"{a}[{rng.choice([0, 1, -1])}]")
    elif roll < 0.85:
        d.line(f"{a} = list({split})")
        d.line(f"{a}.append(F.relu({a}[-1]))")
        d.new(f"torch.cat({a}, {dim})")
    else:
        d.line(f"{a}, {b} = {split}")
        d.new(rng.choice([f"torch.cat([{b}, {a}], {dim})", f"{a} * torch.sigmoid({b})", f"{a} * {b}"]))


def image(d: Drawer) -> None:
    """Interpolation, padding, pixel shuffles, unfolding."""
    x, rng = d.floats((3, 4, 4, 4)), d.rng
    rank = len(d.shape(x))
    least = min(d.least(x, dim) for dim in range(2, rank))
    if rank == 3:
        mode = rng.choice(["constant", "reflect", "replicate", "circular"])
        found = [f"F.pad({x}, (1, 0), mode={mode!r})" if least > 1 else f"F.pad({x}, (1, 2))", f"F.interpolate({x}, scale_factor=2)", f"F.pad({x}, (0, 1), value=0.5)",
                 f"F.interpolate({x}, size=7, mode='linear')", f"@nn.ConstantPad1d(1, 0.3)@({x})", f"F.pad({x}, (0, 0, 1, 0))",
                 f"@nn.ReplicationPad1d((1, 0))@({x})"]  # fmt: skip
    else:
        channels = d.shape(x)[1]
        found = [
            f"F.pad({x}, (1, 1, 1, 1))", f"F.pad({x}, (0, 1, 1, 0), 'constant', 0.5)", f"@nn.ZeroPad2d(1)@({x})", f"F.pad({x}, (1, 0), mode='replicate')",
            f"F.interpolate({x}, scale_factor=2)", f"F.interpolate({x}, scale_factor=2, mode='bilinear')", f"F.interpolate({x}, size=(5, 7))",
            f"@nn.Upsample(scale_factor=2)@({x})", f"@nn.UpsamplingBilinear2d(scale_factor=2)@({x})",
            f"F.interpolate({x}, scale_factor=2.0, mode='bicubic')", f"F.interpolate({x}, size={x}.shape[2:])", f"F.interpolate({x}, (4, 4), mode='nearest-exact')",
            f"F.interpolate({x}, scale_factor=1.5, mode='bilinear', align_corners=True)", f"F.interpolate({x}, size=(3, 3), mode='area')",
            f"F.unfold({x}, 2)", f"@nn.Unfold(2, stride=2)@({x})",
        ]  # fmt: skip
        if least > 1:
            found += [
                f"F.pad({x}, (1, 1, 1, 1), mode='reflect')",
                f"@nn.ReflectionPad2d(1)@({x})",
                f"F.pad({x}, (1, 0, 0, 1), mode='circular')",
            ]
        if channels % 4 == 0:
            found += [f"F.pixel_shuffle({x}, 2)", f"@nn.PixelShuffle(2)@({x})"] * 2
        if channels % 2 == 0:
            found += [f"@nn.ChannelShuffle(2)@({x})", f"F.channel_shuffle({x}, 2)"]
        if all(d.least(x, dim) % 2 == 0 for dim in (2, 3)):
            found += [f"F.pixel_unshuffle({x}, 2)"]
    d.new(d.chosen(found))


def write(d: Drawer) -> None:
    """Writes in place, through names, views, lists and dicts."""
    x, rng = d.floats((2, 3, 4)), d.rng
    y = (
        d.new(rng.choice([f"{x} + 0", f"{x}.clone()", f"{x} * 1.5", f"F.relu({x})"]), expose=False)
        if rng.random() < 0.5
        else x
    )
    if y in d.runs[0] and y == x and x.startswith("x") and rng.random() < 0.9:
        raise Discard  # inputs of the model are seldom written
    width = d.least(y, -1)
    half = max(1, width // 2)
    lines = rng.choice([
        [f"{y} += 0.5"], [f"{y} *= 0.5"], [f"{y}.add_(1)"], [f"{y}.mul_(0.5)"], [f"{y}.relu_()"], [f"{y}.clamp_(-1, 1)"], [f"torch.relu_({y})"],
        [f"{y}[..., :{half}] = 0.25"], [f"{y}[:, 0] = {y}[:, -1]"], [f"{y}[..., 0] += 1"], [f"{y}[:, :1].mul_(2)"], [f"{y}.select(1, 0).zero_()"],
        [f"{y}.masked_fill_({y} < 0, 0.0)"], [f"{y}[{y} < 0] = 0.0"], [f"{y}.copy_({x} * 2)"], [f"{y}.fill_(0.5)"], [f"{y}.sub_({x} * 0.5)"],
        [f"view = {y}[..., :{half}]", "view *= 0.0"], [f"view = {y}.transpose(-1, -2)", "view += 0.5"], [f"kept = [{y}]", "kept[0] += 1", f"{y} = {y} + kept[0]"],
        [f"kept = {{'a': {y}}}", "kept['a'].mul_(2)"], [f"view = {y}.reshape(-1)", "view.mul_(0.5)"], [f"view = {y}.view(-1)", "view[0] = 0.0"],
        [f"view = {y}[:, 0]", "view.zero_()"], [f"first, *_ = {y}.unbind(-1)", "first += 1"], [f"view = {y}.flatten(1)", "view.tanh_()"],
        [f"F.relu({y}, inplace=True)"], [f"F.leaky_relu_({y}, 0.2)"], [f"{y}.transpose_(-1, -2)"], [f"torch.add({y}, 0.5, out={y})"], [f"{y}.squeeze_(0)"],
    ])  # fmt: skip
    for line in lines:
        d.line(line)
    if y != x or f"{y} = " in lines[-1]:
        d.expose(y)
    else:
        d.fresh.append(y)


OPERATIONS = {view: 9, cut: 6, move: 3, pieces: 6, image: 4, write: 5}
