"""Float models for graph mode: small ones of our own, and torchvision's definitions where that is installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.vision_models import torchvision_models


class Residual(nn.Module):
    """Convolutions with all that fuses with them, residual sums, cat, pooling, linear; input (batch, 3, 16, 16)."""

    SHAPE = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c2, self.b2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.c3, self.b3, self.r3 = nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16), nn.ReLU()
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout()
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 10)

    def forward(self, x):
        a = F.relu(self.b1(self.c1(x)))
        b = F.relu(self.b2(self.c2(a)) + a)
        c = self.r3(self.b3(self.c3(torch.cat([a, b], 1))))
        c = self.pool(c) + self.depthwise(F.max_pool2d(b, 2))
        d = torch.flatten(F.adaptive_avg_pool2d(c, 1), 1)
        return self.fc2(self.drop(F.relu(self.fc1(d))))


class Gated(nn.Module):
    """Activations by tables, gates, products, numbers, a clamp; input (batch, 16, 8, 8)."""

    SHAPE = (16, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.down, self.up = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.hard, self.swish, self.six = nn.Hardsigmoid(), nn.Hardswish(), nn.ReLU6()
        self.elu, self.leaky = nn.ELU(0.7), nn.LeakyReLU(0.2)

    def forward(self, x):
        x = self.swish(self.c1(x))
        gate = self.hard(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        y = self.six(self.c2(x * gate))
        y = self.leaky(self.elu(y + 1) * 0.5)
        return torch.sigmoid(y.mean([2, 3])), torch.tanh(y)


class Shared(nn.Module):
    """One layer called twice, one function in many places, reshaping; input (batch, 16)."""

    SHAPE = (16,)

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.relu, self.last = nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)

    def forward(self, x):
        y = self.relu(self.fc(x))
        z = self.relu(self.fc(y))
        joined = torch.stack([y, z], 1).reshape(x.shape[0], 2, 16).transpose(1, 2)
        return self.last(joined.permute(0, 2, 1)[:, 0] + z)


class Choosing(nn.Module):
    """Control flow on values inside; input (batch, 8)."""

    SHAPE = (8,)

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x):
            if x.sum() > 1e9:
                return x
            return self.norm(self.fc(x))

    def __init__(self) -> None:
        super().__init__()
        self.before, self.inner, self.after = nn.Linear(8, 8), self.Inner(), nn.Linear(8, 3)

    def forward(self, x):
        return self.after(F.relu(self.inner(self.before(x))))


MODELS = (Residual, Gated, Shared, Choosing)


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A model in eval mode, with batch norm statistics of its own."""
    torch.manual_seed(seed)
    model = kind()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model.eval()


def batches(kind: Any, count: int = 3, seed: int = 1, batch: int = 4) -> list[tuple[torch.Tensor]]:
    """Inputs for a model, in channels_last where they are images, as torch's kernels have it."""
    generator = torch.Generator().manual_seed(seed)
    made_inputs = [torch.randn(batch, *kind.SHAPE, generator=generator) for _ in range(count)]
    if len(kind.SHAPE) == 3:
        made_inputs = [x.to(memory_format=torch.channels_last) for x in made_inputs]
    return [(x,) for x in made_inputs]


def torchvision_model(name: str, size: int = 64) -> tuple[nn.Module, list[tuple[torch.Tensor]]]:
    """One of torchvision's nets with settled batch norm statistics, and inputs; skips where it is not installed."""
    definitions = torchvision_models()
    torch.manual_seed(0)
    arguments = {"init_weights": True} if name == "googlenet" else {}
    model = getattr(definitions, name)(**arguments)
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> torch.Tensor:
        small = torch.randn(count, 3, size // 4, size // 4, generator=generator)
        return F.interpolate(small, scale_factor=4, mode="bilinear")

    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        model.train()
        with torch.no_grad():
            for _ in range(2):
                model(images(8))
    return model.eval(), [(images(2).to(memory_format=torch.channels_last),) for _ in range(2)]
