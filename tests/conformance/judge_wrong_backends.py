"""The kit on every wrong backend; run by test_kit.py in a process of its own."""

from hypothesis import Phase, settings

from qcore.conformance import Conformance
from tests.conformance.wrong_backends import register_all
from tests.conformance.wrong_kernels import ALL

settings.register_profile("no shrinking", phases=[Phase.generate])
settings.load_profile("no shrinking")


def _judge(name: str) -> None:
    globals()[f"Test{name}"] = type(f"Test{name}", (Conformance,), {"backend": name, "examples": 25})


register_all(ALL, _judge)
