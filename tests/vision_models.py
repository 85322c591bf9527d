"""torchvision's model definitions, without its compiled operators.

`./dev setup` puts torchvision into a folder of its own: its extension is built for another torch, and beside it
`transformers` would fail to import.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(sys.prefix) / "torchvision"


def torchvision_models() -> ModuleType:
    """The module torchvision.models; skips the test where torchvision is not installed."""
    if not FOLDER.is_dir():
        pytest.skip(f"torchvision is not installed in {FOLDER.name}/ of the environment: run ./dev setup")
    if sys.modules.get("torch.ao.quantization", sys) is None:
        pytest.skip("torchvision imports torch.ao.quantization, which is removed here")
    if str(FOLDER) not in sys.path:  # a process that was spawned begins with the path of its parent
        sys.path.append(str(FOLDER))
    if not _LIBRARIES:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):  # what its Python part refers to when it is imported
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    import torchvision.models

    return torchvision.models


_LIBRARIES: list[torch.library.Library] = []  # an operator lives as long as its library object
