"""The hooks of a qcore plugin, whole. Hooks only register: nothing here is called while a model runs.

A plugin is a package with an entry point in the group "qcore", named like its backend, that loads a module with one of
these, or both:

    @qcore.hookimpl
    def qcore_backend() -> qcore.Backend: ...

    @qcore.hookimpl
    def qcore_extension() -> qcore.Extension: ...
"""

from __future__ import annotations

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
