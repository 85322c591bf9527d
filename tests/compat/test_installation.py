"""install and uninstall: what is replaced, that everything comes back, and what a name that is not there says."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest
import torch
from torch import fx

import qcore
from qcore import compat
from qcore.compat.layout import inventory
from qcore.compat.refused import refusal

LEGACY = (
    "torch.ao",
    "torch.quantization",
    "torch.nn.q",
    "torch.nn.intrinsic",
    "torch.ops.quantized",
    "torch.backends.q",
)


@pytest.fixture
def installed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other tests have imported the originals before
        with compat.installed():
            yield


def state():
    """Every attribute that install may touch, and the legacy entries of sys.modules, by identity."""
    owners = [torch, torch.nn, torch.ops, torch.backends, fx.Tracer, sys.modules.get("torch.ao")]
    attributes = {(id(owner), name): id(value) for owner in owners if owner for name, value in vars(owner).items()}
    entries = {name: id(module) for name, module in sys.modules.items() if name.startswith(LEGACY)}
    return attributes, entries


def test_importing_compat_changes_nothing_and_uninstall_restores_everything():
    torch.ops.aten, torch.nn.functional  # noqa: B018  (namespaces that torch makes on first use)
    before = state()
    preferred = qcore.registry.preferred
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compat.install()
        compat.install()
    try:
        assert compat.is_installed() and state() != before
        torch.backends.quantized.engine = "reference"
    finally:
        compat.uninstall()
    compat.uninstall()
    assert not compat.is_installed()
    assert state() == before
    assert qcore.registry.preferred == preferred


def test_a_block_leaves_an_installation_around_it_alone(installed):
    with compat.installed():
        assert compat.is_installed()
    assert compat.is_installed()


def test_names_are_qcores_own_and_the_same_in_old_and_new_homes(installed):
    from torch.ao.nn.quantized.dynamic.modules.linear import Linear

    assert Linear is qcore.nn.quantized.dynamic.Linear is torch.nn.quantized.dynamic.Linear
    assert torch.quantization.prepare is torch.ao.quantization.prepare is qcore.api.prepare
    assert torch.quantization.MinMaxObserver is torch.ao.quantization.observer.MinMaxObserver
    assert torch.quint8 is qcore.quint8 and torch.per_tensor_affine is qcore.per_tensor_affine
    for name in ("quantize", "fuse_modules"):  # functions, as in torch, which have the names of submodules
        assert callable(getattr(torch.ao.quantization, name))
        assert importlib.import_module(f"torch.ao.quantization.{name}") is sys.modules[f"torch.ao.quantization.{name}"]
    assert torch.ops.quantized.add.__module__ == "torch.ops.quantized"
    assert torch.ops.quantized.conv2d.new is torch.ops.quantized.conv2d


def test_every_listed_name_is_there_or_says_what_to_use(installed):
    refused = 0
    for module, names in inventory().items():
        for name in names:
            owner = sys.modules["torch" if module == "torch" else module]
            for part in name.split("."):
                owner = getattr(owner, part)
                if refusal(owner):
                    break
            message = refusal(owner)
            if message is None:
                continue
            refused += 1
            with pytest.raises(qcore.UnsupportedError, match="is not in qcore: "):
                owner()
    assert refused


def test_a_refused_name_can_be_imported_and_asked_about_but_not_used(installed):
    from torch.ao.quantization import PerGroup, convert_jit

    assert not isinstance(3, PerGroup)
    with pytest.raises(qcore.UnsupportedError, match="install torchao"):
        PerGroup(32)
    with pytest.raises(qcore.UnsupportedError, match=r"convert_jit is not in qcore.*then script or trace"):
        convert_jit(None)
    with pytest.raises(qcore.UnsupportedError, match="install torchao"):
        type("Mine", (PerGroup,), {})
    with pytest.raises(qcore.UnsupportedError, match="sparse"):
        torch.ao.nn.sparse.quantized.Linear.from_float(None)


def test_a_name_that_torch_never_had_is_an_attribute_and_an_import_error(installed):
    assert not hasattr(torch.ao.quantization, "MinMaxObservers")
    with pytest.raises(AttributeError, match=r"the nearest names: .*MinMaxObserver"):
        torch.ao.quantization.MinMaxObservers  # noqa: B018
    with pytest.raises(ImportError):
        from torch.ao.quantization import Nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("torch.ao.quantization.nothing")


def test_an_engine_names_the_backend(installed):
    engine = torch.backends.quantized
    usable = [status.name for status in qcore.registry.statuses() if status.usable]
    assert {"fbgemm", "x86", "onednn", "qnnpack", *usable} <= set(engine.supported_engines)
    engine.engine = "reference"
    assert engine.engine == "reference" and qcore.registry.choose().backend.name == "reference"
    with pytest.raises(qcore.ArgumentError, match=r"engine = 'cuda'.*fbgemm"):
        engine.engine = "cuda"
    assert engine.engine == "reference"
    for name, backend in (("fbgemm", "fbgemm_x86"), ("qnnpack", "qnnpack_arm")):
        if backend in usable:
            engine.engine = name
            assert qcore.registry.choose().backend.name == backend
        else:
            with pytest.warns(UserWarning, match=rf"engine '{name}'.*stands in"):
                engine.engine = name
            assert qcore.registry.preferred is None
        assert engine.engine == name


def test_inductor_and_export_still_find_what_they_import(installed):
    from torch.ao.quantization.fx import _decomposed

    assert _decomposed.__file__.endswith("_decomposed.py")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_a_script_runs_unchanged_under_the_module(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\nfrom torch.quantization import quantize_dynamic\n"
        "net = quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(3, 2)))\n"
        "print(type(net[0]).__module__, sys.argv[1:], __name__)\n"
    )
    done = run("-m", "qcore.compat", str(script), "--size", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["qcore.nn.quantized.dynamic.linear", "['--size',", "'3']", "__main__"]
    assert run("-m", "qcore.compat").returncode != 0


@pytest.mark.parametrize(("value", "expected"), [("1", "True"), ("0", "False")])
def test_a_program_lets_its_users_choose(value, expected):
    code = "import qcore.compat; print(qcore.compat.install_if_asked())"
    assert run("-c", code, QCORE_COMPAT=value).stdout.strip() == expected


def test_whoever_imported_the_originals_before_is_named():
    code = "from torch.ao.quantization import QuantStub\nimport qcore.compat; qcore.compat.install()"
    done = run("-c", code)
    assert "install(): __main__" in done.stderr and "imported torch's own quantization before" in done.stderr
