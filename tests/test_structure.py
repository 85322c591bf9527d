"""Promises about the source: the order of layers, no backend names in the core, nothing of what torch is deleting."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import qcore

PACKAGE = Path(qcore.__file__).parent
BACKENDS = PACKAGE.parent / "backends"

# Lower layers first; a file may import from its own layer and those before it.
LAYERS = [
    ("errors", "process", "tensor.arguments", "tensor.dtypes", "tensor.qparams", "tensor.compiled"),
    ("tensor.recording", "tensor.entering"),
    ("operators", "tables", "training_operators"),
    ("graph.moves", "graph.ir"),
    ("capability",),
    ("backend",),
    ("checks", "extension", "selection"),
    ("hookspec",),
    ("registry",),
    ("custom_ops.schema",),
    ("binding",),
    ("custom_ops",),
    ("tensor",),
    ("api.observer", "api._observers"),
    ("api.fake_quantize", "api._fake_quantize_function"),
    ("api.qconfig",),
    ("report",),
    ("nn",),
    ("api", "fx"),
    ("graph",),
    ("native",),
    ("onnx",),
    ("", "conformance", "compat", "explain", "scaffold", "cli", "__main__"),
]


def layer_of(module: str) -> int:
    """Index of the layer of a module named relative to qcore; the longest matching entry decides."""
    best = max(
        ((len(entry), index) for index, layer in enumerate(LAYERS) for entry in layer if under(module, entry)),
        default=None,
    )
    assert best is not None, f"qcore.{module} has no place in LAYERS"
    return best[1]


def under(module: str, entry: str) -> bool:
    return module == entry or (entry != "" and module.startswith(entry + "."))


def modules() -> dict[str, Path]:
    """Module name relative to qcore -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of qcore that a file imports when it is loaded, relative to qcore."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    relative = {name.removeprefix("qcore").removeprefix(".") for name in found if name.split(".")[0] == "qcore"}
    return {name for name in relative if name in MODULES and name != ""}


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_order_of_layers(module):
    mine = layer_of(module)
    above = {name for name in imports(MODULES[module]) if layer_of(name) > mine}
    assert not above, f"qcore.{module} imports from layers above its own: {sorted(above)}"


def test_no_backend_is_named_in_the_core():
    names = {path.name for path in BACKENDS.iterdir() if path.is_dir()} - {"reference"}
    names |= {name.partition("_")[0] for name in names}
    pattern = re.compile("|".join(sorted(names)))
    hits = [
        f"{path}:{number}: {line.strip()}"
        for module, path in MODULES.items()
        if not module.startswith("compat")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(code_of(line))
    ]
    assert not hits, "\n".join(hits)


def code_of(line: str) -> str:
    return line.partition("#")[0]


def test_nothing_that_torch_is_deleting_is_used():
    pattern = re.compile(
        r"torch\.(ao\b|quantization\b|nn\.(quantized|qat|intrinsic|quantizable)\b|quantize_per|ops\.quantized|"
        r"_empty_affine|backends\.quantized|q(u)?int\d|fake_quantize)"
    )
    hits = []
    for path in [*PACKAGE.rglob("*.py"), *BACKENDS.glob("*/qcore_*/**/*.py")]:
        if "compat" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        hits += [
            f"{path}:{node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if (isinstance(node, ast.Attribute) and pattern.match(ast.unparse(node)))
            or (isinstance(node, ast.ImportFrom) and pattern.match(node.module or ""))
            or (isinstance(node, ast.Import) and any(pattern.match(alias.name) for alias in node.names))
        ]
    assert not hits, "\n".join(hits)


def test_no_file_grows_over_500_lines():
    long = {
        str(path.relative_to(PACKAGE.parent)): count
        for root in (PACKAGE, BACKENDS)
        for path in root.rglob("*")
        if path.suffix in (".py", ".h", ".cpp")
        and "build" not in path.parts
        and (count := len(path.read_text().splitlines())) > 500
    }
    assert not long
