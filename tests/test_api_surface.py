"""Every name of the reference's API is at its home, and says what it does, with shapes, errors and source.

The text of a name is its docstring, with those of its bases, of the methods that build and call it, and of its home;
a constant's is the string below it in the source.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import typing
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import qcore

if typing.TYPE_CHECKING:
    from types import ModuleType

tomllib = pytest.importorskip("tomllib", reason="the list of names is TOML, which Python reads since 3.11")

SURFACE = tomllib.loads((Path(__file__).parent / "api_surface.toml").read_text())
NAMES = [(section["home"], name) for section in SURFACE["section"] for name in section["names"]]

REFUSE_NOTHING = {
    "dequantize",
    "int_repr",
    "default_eval_fn",
    "disable_fake_quant",
    "disable_observer",
    "enable_fake_quant",
    "enable_observer",
    "freeze_bn_stats",
    "get_observer_dict",
    "get_observer_state_dict",
    "update_bn_stats",
}
"""Functions that take any model, methods that take any quantized tensor."""

METHODS = ("__init__", "__new__", "forward", "from_float", "calculate_qparams")


def resolve(home: str, name: str) -> object:
    if home == "qcore.QTensor":
        return getattr(qcore.QTensor, name)
    return getattr(importlib.import_module(home), name)


@cache
def constants(module: ModuleType) -> dict[str, str]:
    """Name -> the string below its assignment, in the module and those that it imports names from."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.getsource(module)).body
    for this, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(this, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[this.targets[0].id] = after.value.value
    return found


def own(home: str, name: str) -> str:
    """The docstring of a name itself, not one that it inherits."""
    thing = resolve(home, name)
    if isinstance(thing, type):
        return thing.__dict__.get("__doc__") or ""
    if inspect.isroutine(thing):
        return thing.__doc__ or ""
    return constants(importlib.import_module(home)).get(name, "")


def context(home: str, name: str) -> list[str]:
    """Docstrings of bases of our own and of the methods that one uses."""
    thing = resolve(home, name)
    texts = [qcore.QTensor.__doc__ or ""] if home == "qcore.QTensor" else []
    if isinstance(thing, type):
        for base in thing.__mro__:
            if base.__module__.startswith("qcore"):
                texts += [base.__dict__.get("__doc__") or ""]
                texts += [inspect.getdoc(base.__dict__[each]) or "" for each in METHODS if each in base.__dict__]
    return texts


def homes(home: str, name: str) -> list[str]:
    """The docstrings of the module where a name is listed, and of that where it is written."""
    thing = resolve(home, name)
    modules = [importlib.import_module("qcore.tensor.qtensor" if home == "qcore.QTensor" else home)]
    written = getattr(thing, "__module__", None)
    if isinstance(thing, type) or inspect.isfunction(thing):
        modules.append(importlib.import_module(str(written)))
    return [module.__doc__ or "" for module in modules]


def takes_tensors(thing: object) -> bool:
    if isinstance(thing, type):
        return issubclass(thing, nn.Module)
    if not inspect.isfunction(thing):
        return False
    return any("Tensor" in str(parameter.annotation) for parameter in inspect.signature(thing).parameters.values())


def takes_arguments(thing: object) -> bool:
    return isinstance(thing, type) or inspect.isfunction(thing)


@pytest.mark.parametrize(("home", "name"), NAMES)
def test_a_name_has_its_purpose_in_words(home, name):
    text = own(home, name)
    assert re.match(r"\s*(\S+ ){2,}", text), text
    if takes_arguments(resolve(home, name)) and home != "qcore.QTensor":
        assert text.splitlines()[0].endswith((".", ";", ":", ",")) or len(text.splitlines()) > 1, text


@pytest.mark.parametrize(("home", "name"), [each for each in NAMES if takes_tensors(resolve(*each))])
def test_what_takes_tensors_gives_their_shape(home, name):
    text = " ".join([own(home, name), *context(home, name)])
    assert re.search(r"(?i)shape|\((batch|channels|time|out|in|bags|n|1)\b|\(\.\.\.|any model", text), text


@pytest.mark.parametrize(
    ("home", "name"), [each for each in NAMES if takes_arguments(resolve(*each)) and each[1] not in REFUSE_NOTHING]
)
def test_what_takes_arguments_gives_its_errors(home, name):
    text = " ".join([own(home, name), *context(home, name), *homes(home, name)])
    assert re.search(r"\b[Rr]aises|[Ee]rrors?\b", text), text


@pytest.mark.parametrize(("home", "name"), NAMES)
def test_a_name_gives_its_source(home, name):
    text = " ".join([own(home, name), *context(home, name), *homes(home, name)])
    assert re.search(r"docs/numerics\.md|\btorch\b|\bas nn\.|arXiv|PyTorch", text), text


@pytest.mark.parametrize("name", SURFACE["types"]["dtypes"] + SURFACE["types"]["schemes"])
def test_a_dtype_or_scheme_equals_torchs_name(name):
    assert str(getattr(qcore, name)).endswith(name)
    theirs = getattr(torch, name, None)
    assert theirs is None or getattr(qcore, name) == theirs
