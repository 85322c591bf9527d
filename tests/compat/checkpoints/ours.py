"""The models of `models`, prepared and converted by qcore: what torch's files are loaded into."""

from __future__ import annotations

import torch
from torch import nn

import qcore
from qcore.api import qconfig as qconfigs
from tests.compat.checkpoints import models


def static(per_channel: bool = True, seed: int = 1) -> nn.Module:
    """Calibrated with other data, and made of other weights, than what is loaded."""
    model = qcore.fuse_modules(models.conv_net(models.OURS, seed), ["first", "relu"])
    model.qconfig = qconfigs.default_per_channel_qconfig if per_channel else qconfigs.default_qconfig
    prepared = qcore.prepare(model)
    prepared(3 * models.images(seed))
    return qcore.convert(prepared)


def dynamic(dtype=qcore.qint8) -> nn.Module:
    return qcore.quantize_dynamic(models.speech(1), dtype=dtype)


def embeddings(bits: int = 8) -> nn.Module:
    eight, four = qconfigs.float_qparams_weight_only_qconfig, qconfigs.float_qparams_weight_only_qconfig_4bit
    return qcore.quantize_dynamic(models.tables(1), {"rows": eight, "bags": eight if bits == 8 else four})


FRESH = {
    "static": static,
    "static_per_tensor": lambda: static(False),
    "dynamic": dynamic,
    "dynamic_float16": lambda: dynamic(torch.float16),
    "embeddings": embeddings,
    "embeddings_4bit": lambda: embeddings(4),
}
INPUTS = {
    "static": models.images(),
    "dynamic": models.sequences(),
    "embeddings": models.INDICES,
}


def inputs(name: str) -> torch.Tensor:
    return INPUTS[name.partition("_")[0]]


def assert_same(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal; within 1e-6 where there are gates, whose sigmoid and tanh in torch depend on the CPU."""
    if name.startswith("dynamic"):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    else:
        assert torch.equal(found, expected)
