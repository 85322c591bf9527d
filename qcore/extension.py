"""What a plugin adds to another plugin's backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qcore.capability import Pattern


@dataclass(frozen=True)
class Extension:
    """An addition to the backend named `extends`.

    `patterns`: further sequences of modules that graph mode fuses for it; `qconfigs`: QConfigs by name, with observers
    of the plugin's own where it has any, which `get_qconfig_preset` gives to users who ask for them.
    """

    extends: str
    patterns: tuple[Pattern, ...] = ()
    qconfigs: Mapping[str, Any] = field(default_factory=dict)
