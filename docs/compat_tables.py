"""The tables of docs/compat.md: which of torch's names qcore.compat has, and what to use instead of the others."""

from __future__ import annotations

from collections import defaultdict

from qcore.compat.layout import MOVED, inventory, resolve
from qcore.compat.refused import refusal

FAMILIES = (
    "torch.ops.quantized",
    "torch.ao.quantization.backend_config",
    "torch.ao.quantization.fx",
    "torch.ao.quantization",
    "torch.ao.nn.intrinsic",
    "torch.ao.nn.qat",
    "torch.ao.nn.quantizable",
    "torch.ao.nn.quantized",
    "torch.ao.nn.sparse",
    "torch.ao.nn",
    "torch.ao.ns",
    "torch",
)


def names() -> dict[str, dict[str, str]]:
    """By family, each name with the reason why it is not there; empty for one that is. A name counts once."""
    found: dict[str, dict[str, str]] = {family: {} for family in FAMILIES}
    for module, listed in inventory().items():
        family = next(each for each in FAMILIES if _new_home(module).startswith(each))
        for name in listed:
            if "." in name:
                continue
            message = refusal(resolve(module, name)) or ""
            reason = message.partition("is not in qcore: ")[2]
            found[family][name] = reason if found[family].get(name, reason) else ""
    return {family: listed for family, listed in found.items() if listed}


def _new_home(module: str) -> str:
    for old, new in MOVED.items():
        if module == old or module.startswith(old + "."):
            return new + module[len(old) :]
    return module


def counts() -> list[list[str]]:
    """A row for each family, and their sum."""
    rows, total = [], [0, 0]
    for family, listed in names().items():
        missing = sum(bool(reason) for reason in listed.values())
        rows.append([f"`{family}`", str(len(listed)), str(len(listed) - missing), str(missing)])
        total = [total[0] + len(listed), total[1] + missing]
    return [*rows, ["all", str(total[0]), str(total[0] - total[1]), str(total[1])]]


def refused() -> list[list[str]]:
    """A row for each family and reason, with the names."""
    rows = []
    for family, listed in names().items():
        by_reason = defaultdict(list)
        for name, reason in sorted(listed.items()):
            if reason:
                by_reason[reason].append(f"`{name}`")
        rows += [[f"`{family}`", ", ".join(each), reason] for reason, each in by_reason.items()]
    return rows
