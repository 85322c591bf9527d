"""What torch's legacy stack has in public, as `qcore/compat/torch_2_13.txt` lists it.

python -m tests.compat.inventory           rewrite that file, on torch 2.13 as it is
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

FILE = Path(__file__).parents[2] / "qcore" / "compat" / "torch_2_13.txt"
ROOTS = (
    "torch.ao.quantization",
    "torch.ao.nn",
    "torch.ao.ns",
    "torch.quantization",
    "torch.nn.quantized",
    "torch.nn.qat",
    "torch.nn.intrinsic",
    "torch.nn.quantizable",
)
KEPT = ("torch.ao.quantization.fx._decomposed",)
"""Not replaced: Inductor and torch.export import it."""
OF_TORCH = re.compile(
    r"q(u)?int\d.*|.*fake_quantize?.*|fused_moving_avg_obs_fake_quant|quantize_per.*|dequantize|empty_quantized|"
    r"_empty_.*affine_quantized|_make_per_.*|quantized_.*|q_.*|per_(tensor|channel)_.*|choose_qparams_optimized|"
    r"_choose_qparams_per_tensor|_saturate_weight_to_fp16|fbgemm_.*|Q(U)?Int.*Storage|_wrapped_.*linear.*"
)


def modules() -> list[str]:
    """Every module of the legacy stack."""
    found = set()
    for root in ROOTS:
        found.add(root)
        found |= {each.name for each in pkgutil.walk_packages(importlib.import_module(root).__path__, root + ".")}
    return sorted(found - set(KEPT))


def public(module: ModuleType) -> set[str]:
    """What `__all__` lists, and what else a module shows of the stack, which can be imported from it."""

    def legacy(value: object) -> bool:
        return str(getattr(value, "__module__", "")).startswith(ROOTS)

    listed = getattr(module, "__all__", None)
    names = set(listed or ())
    for name, value in vars(module).items():
        if not name.startswith("_") and legacy(value):
            names.add(name)
    return {name for name in names if not isinstance(getattr(module, name, None), ModuleType)}


def inventory() -> dict[str, list[str]]:
    """Names by module; operators, with their overloads, under torch.ops.quantized; functions and dtypes under torch."""
    import torch

    found = {}
    for name in modules():
        found[name] = sorted(public(importlib.import_module(name)))
    found["torch"] = sorted(name for name in vars(torch) if OF_TORCH.fullmatch(name))
    schemas = [schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("quantized::")]
    operators = {schema.name.partition("::")[2] for schema in schemas}
    overloads = {f"{s.name.partition('::')[2]}.{s.overload_name or 'default'}" for s in schemas}
    found["torch.ops.quantized"] = sorted(operators | overloads)
    return dict(sorted(found.items()))


def rendered() -> str:
    """The file: a line for each module."""
    return "".join(f"{module}: {' '.join(names)}".rstrip() + "\n" for module, names in inventory().items())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if "--print" in sys.argv[1:]:
        sys.stdout.write(rendered())
    else:
        FILE.write_text(rendered())
