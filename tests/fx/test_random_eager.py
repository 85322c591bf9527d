"""Drawn nets that eager mode can convert too, with stubs and FloatFunctionals: both modes give the same bits."""

from __future__ import annotations

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import qcore
from qcore.api.backend_config import BackendPatternConfig, ObservationType, get_backend_config
from tests.fx.qconfigs import OURS
from tests.fx.test_oracle import results
from tests.fx.test_random_graphs import CHANNELS, inputs, steps


def swapped(x):
    one, other = x.chunk(2, 1)
    return torch.cat([other, one], 1)


FLOAT = {
    "conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "grouped": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2, groups=4, bias=False),
    "conv_relu": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU()),
    "conv_bn": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)),
    "conv_bn_relu": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU()),
    "bn": lambda: nn.BatchNorm2d(CHANNELS),
    "transposed": lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1),
    "linear": lambda: nn.Linear(8, 8),
    "layer_norm": lambda: nn.LayerNorm(8),
    "group_norm": lambda: nn.GroupNorm(2, CHANNELS),
    "swish": nn.Hardswish,
    "elu": nn.ELU,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "sigmoid": nn.Sigmoid,
    "prelu": lambda: nn.PReLU(CHANNELS),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "max_pool": lambda: nn.MaxPool2d(3, 1, 1),
    "avg_pool": lambda: nn.AvgPool2d(3, 1, 1),
    "dropout": nn.Dropout,
    "pooled": lambda: lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
    "rectified": lambda: torch.relu,
    "swapped": lambda: swapped,
    "turned": lambda: lambda x: x.transpose(2, 3).flip([1]),
    "shuffled": lambda: lambda x: x.reshape(-1, 2, CHANNELS // 2, 8, 8).transpose(1, 2).flatten(1, 2),
}
"""Makers of what has one input."""
PAIRS = ("add", "add_relu", "mul", "matmul", "cat")
"""Methods of FloatFunctional on two."""


class Stubbed(nn.Module):
    """A list of (operation, first operand, second operand, _); operands count back from the latest value. All values
    are results, so that no layer fuses with what reads its value, in either mode, but where it is in a Sequential."""

    def __init__(self, steps: list[tuple[str, int, int, int]], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.quant, self.dequant, self.first = qcore.QuantStub(), qcore.DeQuantStub(), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.steps = steps
        self.functions = {index: FLOAT[name]() for index, (name, *_) in enumerate(steps) if name in FLOAT}
        self.layers = nn.ModuleDict({str(index): each for index, each in self.functions.items() if is_module(each)})
        pairs = [index for index, (name, *_) in enumerate(steps) if name in PAIRS]
        self.pairs = nn.ModuleDict({str(index): qcore.nn.quantized.FloatFunctional() for index in pairs})
        joins = [index for index in pairs if steps[index][0] == "cat"]
        self.joined = nn.ModuleDict({str(index): nn.Conv2d(2 * CHANNELS, CHANNELS, 1) for index in joins})
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                nn.init.normal_(module.weight, 1.0, 0.3)
                nn.init.normal_(module.bias, 0.0, 0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0.0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2.0)

    def forward(self, x):
        values = [self.first(self.quant(x))]
        for index, (name, one, other, _) in enumerate(self.steps):
            a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
            values.append(self.pair(index, name, a, b) if name in PAIRS else self.alone(index, a))
        return [self.dequant(value) for value in values]

    def alone(self, index, a):
        return self.layers[str(index)](a) if str(index) in self.layers else self.functions[index](a)

    def pair(self, index, name, a, b):
        functional = self.pairs[str(index)]
        if name == "cat":
            return self.joined[str(index)](functional.cat([a, b], 1))
        return getattr(functional, name)(a, b)

    def groups(self):
        """What eager mode is told to fuse."""
        fused = [(path, module) for path, module in self.named_modules() if type(module) is nn.Sequential]
        return [[f"{path}.{index}" for index in range(len(module))] for path, module in fused]


def is_module(value):
    return isinstance(value, nn.Module)


def config():
    """What the backends declare, but for cat, whose result eager mode observes by itself."""
    own = ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT
    found = get_backend_config("auto")
    (cat,) = [each for each in found.configs if each.pattern is torch.cat]
    pattern = BackendPatternConfig(torch.cat).set_observation_type(own).set_dtype_configs(cat.dtype_configs)
    return found.set_backend_pattern_config(pattern)


CONFIG = config()


def by_eager(model, batches):
    eager = qcore.fuse_modules(copy.deepcopy(model), model.groups())
    eager.qconfig = OURS["per_channel"]
    prepared = qcore.prepare(eager)
    results(prepared, batches)
    return qcore.convert(prepared)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(steps(sorted([*FLOAT, *PAIRS])), st.integers(0, 3))
def test_graph_mode_gives_the_bits_of_eager_mode(steps, seed):
    model, batches = Stubbed(steps, seed).eval(), inputs(seed)
    prepared = qcore.prepare_fx(model, OURS["per_channel"], batches[0], backend_config=CONFIG)
    results(prepared, batches)
    by_graph = qcore.convert_fx(prepared)
    assert qcore.report(by_graph).float_rows == ()
    on_reference = qcore.lower_fx(qcore.convert_to_reference_fx(prepared), backend="reference")
    expected = results(by_eager(model, batches), batches)
    for other in (by_graph, on_reference):
        for number, (mine, theirs) in enumerate(zip(results(other, batches), expected, strict=True)):
            assert torch.equal(mine, theirs), number
