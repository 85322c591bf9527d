"""A pytest plugin (`-p tests.without_legacy_torch`) that takes out of torch all that it is going to delete.

Test files that compare with the originals are left out; everything else must pass.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import torch

PACKAGES = (
    "torch.ao",
    "torch.quantization",
    "torch.nn.quantized",
    "torch.nn.qat",
    "torch.nn.intrinsic",
    "torch.nn.quantizable",
)
NAMES = re.compile(
    r"q(u)?int\d.*|.*quantize.*|_empty_affine.*|_empty_per_channel.*|_make_per_.*|.*fake_quant.*|quantized_.*|q_.*"
)
NEEDS_THE_ORIGINALS = re.compile(
    r"oracle|tests\.tensor\.pairs|torch\.(ao|quantization|quantize_per|ops\.quantized|nn\.quantized|q(u)?int\d)"
)


class _Gone:
    """Stands where torch.ops.quantized and torch.backends.quantized were."""

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"removed for this test: {name}")


def remove() -> list[str]:
    """Delete the legacy stack from the running torch; returns what went."""
    torch.overrides.get_testing_overrides()  # fills caches of all of torch's functions, the doomed ones among them
    torch.overrides.get_overridable_functions()
    torch.storage._dtype_to_storage_type_map()  # and those of storage types, which saving needs
    torch.storage._storage_type_to_dtype_map()
    importlib.import_module("torch.utils._device")._device_constructors()  # those that make tensors under a device
    importlib.import_module("torch.onnx")  # whose tables name the dtypes; torchvision imports it
    gone = []
    for name in sorted(sys.modules):
        if any(name == package or name.startswith(package + ".") for package in PACKAGES):
            sys.modules[name] = None  # type: ignore[assignment]
            gone.append(name)
    for package in PACKAGES:
        sys.modules[package] = None  # type: ignore[assignment]
        parent, _, child = package.rpartition(".")
        vars(sys.modules[parent]).pop(child, None)
    for name in [name for name in vars(torch) if NAMES.fullmatch(name)]:
        delattr(torch, name)
        gone.append(f"torch.{name}")
    torch.ops.quantized = torch.backends.quantized = _Gone()
    return gone


def pytest_configure() -> None:
    remove()


def pytest_report_header() -> str:
    return "torch's legacy quantization: removed"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.suffix != ".py":
        return None
    return True if NEEDS_THE_ORIGINALS.search(collection_path.read_text()) else None
