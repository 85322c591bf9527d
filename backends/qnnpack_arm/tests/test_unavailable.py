"""Until its kernels are written, the ARM backend is listed with its reason and refuses by name."""

import pytest

import qcore


def test_it_is_listed_and_unavailable_with_a_reason():
    status = qcore.registry.status("qnnpack_arm")
    assert status.backend is not None
    assert not status.usable
    assert "ARM" in status.availability.reason or "kernels" in status.availability.reason


def test_asking_for_it_by_name_says_why_not():
    with pytest.raises(qcore.BackendError, match="cannot run here"):
        qcore.registry.get("qnnpack_arm")
