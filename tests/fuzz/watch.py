"""What code of a file does when it does harm, noticed by an audit hook: it writes files, starts programs, imports."""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.fuzz.spoil_files import MARK

_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "os.remove",
    "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.putenv", "shutil.",
    "socket.", "pickle.find_class", "ctypes.dlopen", "ctypes.dlsym", "urllib.", "http.", "ftplib.", "webbrowser.",
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """While `on`, notes in `seen` what no loading of a file may do. One a process: an audit hook stays."""

    def __init__(self, *, may_write: str) -> None:
        self.on = False
        self.seen: list[str] = []
        self._may_write = may_write
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "import":
            name = str(arguments[0])
            if name.partition(".")[0] == MARK or name.partition(".")[0] not in (
                sys.modules.keys() | sys.stdlib_module_names
            ):
                self.seen.append(f"import {name}")
        elif event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & _WRITES)
            if writes and path != self._may_write:
                self.seen.append(f"open {path!r} {mode!r}")
        elif event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:100]}")
