"""Drawn models: none gives a wrong result or a raw error, and few are refused. More of them: python -m tests.drawn."""

from __future__ import annotations

import os
import random
import time

import pytest
import torch
from torch import nn

from tests.drawn import checks, noise, server
from tests.drawn.draw import INPUTS, MASK, SIZES, draw, evaluated
from tests.drawn.drawer import Drawer
from tests.drawn.findings import Findings
from tests.drawn.open_seeds import OPEN
from tests.drawn.running import other_isas
from tests.drawn.server import Server
from tests.drawn.vocabulary import CHOICES

SEEDS = [seed for seed in range(220) if seed not in OPEN]


@pytest.fixture(scope="module")
def findings():
    found = Findings()
    with Server() as server:
        for outcome in server.chunk(SEEDS, (), other_isas(), quick=True):
            found.add(outcome)
    return found


def test_no_model_goes_wrong(findings):
    assert not findings.wrong, str(findings)


def test_few_are_refused(findings):
    assert findings.is_good or findings.wrong, str(findings)


def test_most_drawn_models_are_fair(findings):
    assert findings.used > 0.9 * len(SEEDS)


def _leave(case):
    if case.program.seed == 1:
        os._exit(3)


def _stand(case):
    if case.program.seed == 1:
        time.sleep(60)


def _spin(case):
    while case.program.seed == 1:
        pass


@pytest.mark.parametrize(
    ("check", "longest", "says"),
    [(_leave, 60, "ended with 3"), (_stand, 5, "stands still for 5 s"), (_spin, 60, "still runs after 2 s")],
)
def test_what_ends_or_stops_a_process_is_a_failure_of_its_seed_alone(monkeypatch, check, longest, says):
    monkeypatch.setitem(checks.CHECKS, "static", check)
    monkeypatch.setattr(server, "SECONDS", 2)
    monkeypatch.setattr(server, "LONGEST", longest)
    found = list(server.in_processes([0, 1, 2], ["static"], False, {}))
    assert [(each.seed, each.check, each.kind) for each in found] == [
        (0, "static", "holds"), (1, "static", "crashed"), (2, "static", "holds")
    ]  # fmt: skip
    assert says in found[1].says


def test_a_seed_gives_one_program():
    assert [draw(seed).text() for seed in range(5)] == [draw(seed).text() for seed in range(5)]


@pytest.mark.parametrize("operation", CHOICES, ids=lambda each: each.__name__)
def test_every_operation_is_drawn(operation):
    """None has a mistake that keeps it out."""
    kinds = [INPUTS[kind].format(c=4, f=8) for kind in ("image", "signal", "rows", "sequence", "sequence", "tokens")]
    for seed in range(60):
        values = [evaluated([*kinds, MASK, "2"], size, seed) for size in SIZES]
        names = [*(f"x{number}" for number in range(len(kinds))), "mask", "times"]
        drawer = Drawer(random.Random(seed), [dict(zip(names, each, strict=True)) for each in values], {})
        drawer.shared.append((drawer.layer("nn.Linear(8, 8)"), "8"))
        if drawer.draw(operation):
            return
    raise AssertionError("drawn in none of 60 tries")


@pytest.mark.parametrize("bits", [8, 4])
def test_the_estimate_tells_8_bits_from_4(bits):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).eval(), torch.randn(32, 16)
    ((least,),) = noise.estimate(model, [(x,)], dynamic=False)

    def rounded(value):
        step = value.abs().max() / 2 ** (bits - 1)
        return (value / step).round() * step

    with torch.no_grad():
        found = rounded(model[2](rounded(model[1](model[0](rounded(x))))))
        got = noise.decibels(model(x), found)
    assert (got >= least - noise.MARGIN) == (bits == 8)


def _dropped(layers):
    layers[2].bias.data.zero_()


def _scaled(layers):
    layers[0].weight.data[3] *= 2


def _skipped(layers):
    layers[1] = nn.Identity()


def _clipped(layers):
    layers[1] = nn.Hardtanh(0.0, 0.5)


@pytest.mark.parametrize("mistake", [_dropped, _scaled, _skipped, _clipped])
@pytest.mark.parametrize("is_of_tokens", [False, True])
def test_the_estimate_tells_a_mistake_of_one_layer(mistake, is_of_tokens):
    torch.manual_seed(0)
    first, x = (
        (nn.Embedding(8, 16), torch.randint(0, 8, (32,))) if is_of_tokens else (nn.Identity(), torch.randn(32, 16))
    )
    model = nn.Sequential(first, nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))).eval()
    ((least,),) = noise.estimate(model, [(x,)], dynamic=False)
    with torch.no_grad():
        right = model(x)
        mistake(model[1])
        assert noise.decibels(right, model(x)) < least - noise.MARGIN


def test_the_estimate_of_a_product_adds_up_the_errors_of_its_factors():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(8, 16)

        def forward(self, x):
            return self.table(x).prod(1)

    torch.manual_seed(0)
    few, many = (
        noise.estimate(Product().eval(), [(torch.randint(0, 8, (32, count)),)], dynamic=False)[0][0] for count in (1, 8)
    )
    assert many < few - 6
