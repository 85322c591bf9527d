"""The hooks of a qcore plugin, whole. Hooks only register: nothing here is called while a model runs.

A plugin is a package with an entry point in the group "qcore", named like its backend, that loads a module with:

    @qcore.hookimpl
    def qcore_backend() -> qcore.Backend: ...
"""

from __future__ import annotations

import pluggy

from qcore.backend import Backend

ENTRY_POINT_GROUP = "qcore"

hookspec = pluggy.HookspecMarker("qcore")
hookimpl = pluggy.HookimplMarker("qcore")


@hookspec
def qcore_backend() -> Backend:  # type: ignore[empty-body]
    """Return the backend of this plugin; its name must be that of the entry point."""
