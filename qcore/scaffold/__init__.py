"""`qcore new-backend NAME`: the files of a backend's package, which installs and passes the kit as it is."""

from __future__ import annotations

import re
from pathlib import Path

from qcore.backend import API_VERSION
from qcore.errors import ArgumentError

TEMPLATE = Path(__file__).parent / "template"
SUFFIX = ".in"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def new_backend(name: str, parent: Path) -> Path:
    """Write the package of a backend of this name into a new folder, torch-qcore-NAME in `parent`; returns the folder.

    ArgumentError, and nothing is written, for a name that is no lower-case identifier, and where the folder is there.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(f"{name!r}: a backend's name is a lower-case identifier, such as 'mynpu' or 'my_npu2'")
    distribution = "torch-qcore-" + name.replace("_", "-")
    folder = parent / distribution
    if folder.exists():
        raise ArgumentError(f"{folder} is there already; remove it, or choose another name or place")
    words = {
        "name": name,
        "package": f"qcore_{name}",
        "class": "".join(part.capitalize() for part in name.split("_")),
        "distribution": distribution,
        "api": ", ".join(map(str, API_VERSION)),
    }
    for source in sorted(TEMPLATE.rglob("*" + SUFFIX)):
        relative = source.relative_to(TEMPLATE).as_posix().removesuffix(SUFFIX)
        target = folder / relative.replace("/package/", f"/{words['package']}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"@(\w+)@", lambda match: words[match[1]], source.read_text()))
    return folder
