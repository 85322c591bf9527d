"""Drawn graphs of branches, shared layers, reused functions, sums and cats: all ways through them agree."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import qcore
from tests.fx.oracle import ours_converted, torch_converted
from tests.fx.test_oracle import pytestmark, results  # noqa: F401
from tests.oracle import engine

CHANNELS = 16


class Drawn(nn.Module):
    """A list of (operation, first operand, second operand, layer); operands count back from the latest value.

    Layers are called from several places where `shared`, else each once.
    """

    SHAPE = (CHANNELS, 8, 8)

    def __init__(self, steps: list[tuple[str, int, int, int]], seed: int, shared: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shared = shared
        count = 3 if shared else len(steps)
        self.steps = steps if shared else [(*step[:3], index) for index, step in enumerate(steps)]
        self.first = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.layers = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(count))
        self.joined = nn.ModuleList(nn.Conv2d(2 * CHANNELS, CHANNELS, 1) for _ in range(count))
        self.relu, self.swish = nn.ReLU(), nn.Hardswish()

    def forward(self, x):
        values = [self.first(x)]
        for operation, one, other, layer in self.steps:
            a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
            values.append(getattr(self, "do_" + operation)(a, b, layer))
        return values[-1], values[len(values) // 2]

    def do_conv(self, a, b, layer):
        return self.layers[layer](a)

    def do_conv_relu(self, a, b, layer):
        return F.relu(self.layers[layer](a))

    def do_relu(self, a, b, layer):
        return self.relu(a)

    def do_add(self, a, b, layer):
        return a + b

    def do_add_relu(self, a, b, layer):
        return torch.relu(torch.add(a, b))

    def do_mul(self, a, b, layer):
        return torch.mul(a, b)

    def do_matmul(self, a, b, layer):
        return a @ b.transpose(2, 3)

    def do_cat(self, a, b, layer):
        return self.joined[layer](torch.cat([a, b], dim=1))

    def do_pool(self, a, b, layer):
        return F.max_pool2d(a, 3, stride=1, padding=1)

    def do_swish(self, a, b, layer):
        return self.swish(a) if self.shared else F.hardswish(a)

    def do_number(self, a, b, layer):
        return a * 0.5 + layer

    def do_split(self, a, b, layer):
        one, other = torch.chunk(a, 2, dim=1)
        return torch.cat([other, one], dim=1)


def operations(*left_out: str) -> list[str]:
    return sorted(name[3:] for name in vars(Drawn) if name.startswith("do_") and name[3:] not in left_out)


def steps(names: list[str]) -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    number = st.integers(0, 5)
    return st.lists(st.tuples(st.sampled_from(names), number, number, st.integers(0, 2)), min_size=1, max_size=9)


def inputs(seed: int) -> list[tuple[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(4, *Drawn.SHAPE, generator=generator).to(memory_format=torch.channels_last),) for _ in range(2)
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps(operations()), st.integers(0, 3))
def test_every_backend_gives_the_integers_of_the_reference(steps, seed):
    model, batches = Drawn(steps, seed).eval(), inputs(seed)
    prepared, converted = ours_converted(model, "per_channel", batches)
    reference = qcore.convert_to_reference_fx(prepared)
    on_reference = qcore.lower_fx(reference, backend="reference")
    for mine, other in zip(results(converted, batches), results(on_reference, batches), strict=True):
        assert torch.equal(mine, other)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(steps(operations("split", "number", "matmul")), st.integers(0, 3))
def test_results_are_those_of_torch(steps, seed):
    # torch gives a layer that is called twice the scale of one call; and gives numbers another meaning than we do
    model, batches = Drawn(steps, seed, shared=False).eval(), inputs(seed)
    _, converted = ours_converted(model, "per_channel", batches)
    _, theirs = torch_converted(model, "per_channel", batches)
    with engine():
        expected = results(theirs, batches)
    for mine, other in zip(results(converted, batches), expected, strict=True):
        assert torch.equal(mine, other)
