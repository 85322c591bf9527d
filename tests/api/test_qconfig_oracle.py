"""QConfig presets against torch.ao's: the same constructors with the same arguments."""

from __future__ import annotations

from typing import Any

import pytest
from torch.ao.quantization import qconfig as theirs

from qcore.api import qconfig as ours

NAMES = sorted(
    name for name in theirs.__all__ if isinstance(getattr(theirs, name), theirs.QConfig) and "qnnpack" not in name
)


def described(maker: Any) -> Any:
    """A constructor as plain data: its class's name, and its arguments likewise."""
    if isinstance(maker, type):
        return maker.__name__
    if hasattr(maker, "p"):
        keywords = {key: described(value) for key, value in maker.p.keywords.items()}
        return maker.p.func.__name__, {key: keywords[key] for key in sorted(keywords)}
    return maker


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_torchs(name: str) -> None:
    preset, original = getattr(ours, name), getattr(theirs, name)
    assert described(preset.activation) == described(original.activation)
    assert described(preset.weight) == described(original.weight)


def test_all_are_compared() -> None:
    assert len(NAMES) == 18
