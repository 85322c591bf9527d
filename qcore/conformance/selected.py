"""What `qcore conformance NAME` gives to pytest: the kit for the backend named in the environment."""

from __future__ import annotations

import os

from qcore.conformance import Conformance


class TestConformance(Conformance):
    """The kit for one backend."""

    backend = os.environ.get("QCORE_CONFORMANCE_BACKEND", "")
    known_failures = os.environ.get("QCORE_CONFORMANCE_KNOWN") or None
    quick = bool(os.environ.get("QCORE_CONFORMANCE_QUICK"))
