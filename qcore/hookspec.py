"""The hooks of a qcore plugin, whole. Hooks only register: nothing here is called while a model runs.

A plugin is a package with an entry point in the group "qcore", named like its backend, that loads a module with one of
the first two, or both, and the third if it has operators of its own:

    @qcore.hookimpl
    def qcore_backend() -> qcore.Backend: ...

    @qcore.hookimpl
    def qcore_extension() -> qcore.Extension: ...

    @qcore.hookimpl
    def qcore_families() -> list[qcore.conformance.Family]: ...
"""

from __future__ import annotations

from typing import Any

import pluggy

from qcore.backend import Backend
from qcore.extension import Extension

ENTRY_POINT_GROUP = "qcore"

hookspec = pluggy.HookspecMarker("qcore")
hookimpl = pluggy.HookimplMarker("qcore")


@hookspec
def qcore_backend() -> Backend:  # type: ignore[empty-body]
    """Return the backend of this plugin; its name must be that of the entry point."""


@hookspec
def qcore_extension() -> Extension:  # type: ignore[empty-body]
    """Return what this plugin adds to another plugin's backend."""


@hookspec
def qcore_families() -> list[Any]:  # type: ignore[empty-body]
    """Return the conformance kit's cases for operators of this plugin's own; only the kit calls this."""
