"""On another CPU the ARM backend is listed with its reason, and refuses by name."""

import platform

import pytest

import qcore

pytestmark = pytest.mark.skipif(platform.machine() in ("aarch64", "arm64"), reason="this is an ARM CPU")


def test_it_is_listed_and_unavailable_with_a_reason():
    status = qcore.registry.status("qnnpack_arm")
    assert status.backend is not None
    assert not status.usable
    assert "needs an ARM CPU" in status.availability.reason


def test_asking_for_it_by_name_says_why_not():
    with pytest.raises(qcore.BackendError, match="cannot run here"):
        qcore.registry.get("qnnpack_arm")
