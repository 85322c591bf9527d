"""Discovery is lazy and guarded, the automatic choice is the same each time, and every error says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest

import qcore
from qcore.registry import Registry
from tests.plugins import good, install


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on sys.path; the registry sees the backends of the distributions in it and no others."""

    def found(*, group):
        points = [
            point for dist in importlib.metadata.distributions(path=[str(tmp_path)]) for point in dist.entry_points
        ]
        return [point for point in points if point.group == group]

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys.modules[Registry.__module__], "entry_points", found)
    monkeypatch.delenv("QCORE_BACKEND", raising=False)
    monkeypatch.delenv("QCORE_DISABLE_BACKENDS", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


def test_listing_names_imports_nothing(folder):
    install(folder, "lazy", "raise AssertionError('imported')")
    assert Registry().names() == ["lazy"]
    assert "fake_lazy" not in sys.modules


def test_a_backend_is_imported_when_it_is_first_asked_for(folder):
    install(folder, "one", good("one"))
    install(folder, "two", good("two"))
    registry = Registry()
    assert registry.get("one").name == "one"
    assert "fake_one" in sys.modules
    assert "fake_two" not in sys.modules


def test_a_backend_is_loaded_once(folder):
    install(folder, "one", good("one"))
    registry = Registry()
    assert registry.get("one") is registry.get("one")


BROKEN = {
    "raises at import": ("raise ValueError('no such chip')", "loading raised ValueError: no such chip"),
    "exits at import": ("import sys; sys.exit(3)", "loading raised SystemExit: 3"),
    "needs what is not installed": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "has a syntax error": ("def f(:", "loading raised SyntaxError"),
    "has no hook": ("x = 1", "has no hook implementation qcore_backend"),
    "misspells the hook": (
        "import qcore\n@qcore.hookimpl\ndef qcore_backends(): pass",
        "unknown hook 'qcore_backends'",
    ),
    "hook raises": (
        "import qcore\n@qcore.hookimpl\ndef qcore_backend(): raise OSError('driver')",
        "loading raised OSError: driver",
    ),
    "hook gives another type": (
        "import qcore\n@qcore.hookimpl\ndef qcore_backend(): return 'me'",
        "qcore_backend() returned 'me', not a qcore.Backend",
    ),
    "hook gives the class": (
        good("broken").replace("return Fake()", "return Fake"),
        "not a qcore.Backend",
    ),
    "does not implement the contract": (
        good("broken").replace("def build", "def construct"),
        "loading raised TypeError",
    ),
    "has another name": (good("other"), "it calls itself 'other', but is registered as 'broken'"),
    "is for an older major version": (
        good("broken").replace('version = "1.0"', 'version = "1.0"; api_version = (0, 9)'),
        "version 0.9 of the plugin contract, and this qcore has 1.2",
    ),
    "is for a newer major version": (
        good("broken").replace('version = "1.0"', 'version = "1.0"; api_version = (2, 0)'),
        "version 2.0 of the plugin contract",
    ),
    "is for a newer minor version": (
        good("broken").replace('version = "1.0"', 'version = "1.0"; api_version = (1, 3)'),
        "version 1.3 of the plugin contract",
    ),
    "probe raises": (
        good("broken").replace("return qcore.Availability", "raise RuntimeError('hung bus')\n        return"),
        "raised RuntimeError: hung bus",
    ),
    "probe gives another type": (
        good("broken").replace("return qcore.Availability(True, '', '')", "return True"),
        "probe() returned True, not an Availability",
    ),
    "declaration raises": (
        good("broken").replace("return qcore.Capability()", "raise KeyError('ops')"),
        "raised KeyError: 'ops'",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_breaks_no_other(folder, fault):
    source, reason = BROKEN[fault]
    install(folder, "broken", source)
    install(folder, "right", good("right"))
    registry = Registry()
    status = registry.status("broken")
    assert not status.usable
    assert status.backend is None
    assert status.distribution == "fake-broken"
    assert reason in status.availability.reason
    assert "fake-broken" in status.availability.cure
    assert [item.name for item in registry.statuses()] == ["right", "broken"]
    assert registry.choose("auto").backend.name == "right"


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_raises_only_when_it_is_asked_for_by_name(folder, fault):
    source, reason = BROKEN[fault]
    install(folder, "broken", source)
    registry = Registry()
    registry.statuses()
    with pytest.raises(qcore.BackendError) as caught:
        registry.get("broken")
    assert reason in str(caught.value)
    assert "fake-broken" in str(caught.value)


def test_the_traceback_of_a_broken_plugin_is_kept(folder):
    install(folder, "broken", "def connect():\n    raise ValueError('no such chip')\nconnect()")
    status = Registry().status("broken")
    assert "fake_broken.py" in status.traceback
    assert "in connect" in status.traceback


def test_an_interrupt_is_not_swallowed(folder):
    install(folder, "slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry().status("slow")


def test_auto_takes_the_available_one_of_highest_priority_and_says_why(folder):
    install(folder, "low", good("low", priority=1))
    install(folder, "high", good("high", priority=9))
    install(folder, "absent", good("absent", priority=99, ok=False, reason="no chip found", cure="Plug it in."))
    choice = Registry().choose("auto")
    assert choice.backend.name == "high"
    assert "priority (9)" in choice.reason
    assert "low (priority 1)" in choice.reason
    assert "absent (no chip found)" in choice.reason


def test_auto_takes_the_first_name_of_equal_priority(folder):
    for name in ("c", "a", "b"):
        install(folder, name, good(name))
    registry = Registry()
    assert [registry.choose(None).backend.name for _ in range(3)] == ["a", "a", "a"]


def test_auto_with_nothing_installed_says_what_to_install(folder):
    with pytest.raises(qcore.BackendError, match="pip install torch-qcore-reference"):
        Registry().choose("auto")


def test_auto_with_nothing_usable_lists_every_reason(folder):
    install(folder, "absent", good("absent", ok=False, reason="no chip found", cure="Plug it in."))
    install(folder, "broken", "raise ValueError('bad wheel')")
    with pytest.raises(qcore.BackendError) as caught:
        Registry().choose("auto")
    assert "absent: no chip found. Plug it in." in str(caught.value)
    assert "bad wheel" in str(caught.value)


def test_the_environment_picks_for_auto_only(folder, monkeypatch):
    install(folder, "low", good("low", priority=1))
    install(folder, "high", good("high", priority=9))
    monkeypatch.setenv("QCORE_BACKEND", "low")
    registry = Registry()
    choice = registry.choose("auto")
    assert (choice.backend.name, choice.reason) == ("low", "named by the environment variable QCORE_BACKEND")
    assert registry.choose("high").backend.name == "high"


def test_the_environment_may_not_pick_what_is_missing(folder, monkeypatch):
    install(folder, "low", good("low"))
    monkeypatch.setenv("QCORE_BACKEND", "lwo")
    with pytest.raises(qcore.BackendError, match="Did you mean 'low'"):
        Registry().choose("auto")


def test_the_environment_disables_without_importing(folder, monkeypatch):
    install(folder, "one", good("one", priority=2))
    install(folder, "two", good("two"))
    install(folder, "three", good("three"))
    monkeypatch.setenv("QCORE_DISABLE_BACKENDS", "one, three")
    registry = Registry()
    assert registry.names() == ["two"]
    assert registry.choose("auto").backend.name == "two"
    with pytest.raises(qcore.BackendError, match="disabled by the environment variable QCORE_DISABLE_BACKENDS"):
        registry.get("one")
    assert "fake_one" not in sys.modules


def test_a_missing_name_suggests_near_ones_and_the_install_line(folder):
    install(folder, "mynpu", good("mynpu"))
    with pytest.raises(qcore.BackendError) as caught:
        Registry().get("mynpu_2")
    assert "installed: mynpu" in str(caught.value)
    assert "Did you mean 'mynpu'?" in str(caught.value)
    assert "pip install torch-qcore-mynpu-2" in str(caught.value)


def test_the_status_of_a_missing_name_is_the_same_error(folder):
    with pytest.raises(qcore.BackendError, match="'nobody' is not installed; installed: none"):
        Registry().status("nobody")


def test_an_unavailable_backend_asked_for_by_name_gives_reason_cure_and_others(folder):
    install(folder, "absent", good("absent", ok=False, reason="no chip found", cure="Plug it in."))
    install(folder, "right", good("right"))
    with pytest.raises(qcore.BackendError, match=r"no chip found\. Plug it in\. Usable here: right"):
        Registry().get("absent")


class Plugin:
    """A plugin object of this process."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    @qcore.hookimpl
    def qcore_backend(self):
        return self._backend


def _backend(name: str) -> qcore.Backend:
    namespace: dict[str, object] = {}
    exec(good(name), namespace)
    return namespace["Fake"]()


def test_a_plugin_can_be_registered_and_removed_in_process(folder):
    registry = Registry()
    registry.register(Plugin(_backend("mine")), "mine")
    assert registry.get("mine").name == "mine"
    registry.unregister("mine")
    assert registry.names() == []
    registry.register(Plugin(_backend("mine")), "mine")
    assert registry.names() == ["mine"]


def test_a_broken_plugin_can_be_registered_and_removed_in_process(folder):
    registry = Registry()
    registry.register(Plugin("me"), "mine")
    assert "not a qcore.Backend" in registry.status("mine").availability.reason
    registry.unregister("mine")
    assert registry.names() == []


def test_a_name_is_registered_once(folder):
    install(folder, "taken", good("taken"))
    registry = Registry()
    with pytest.raises(qcore.BackendError, match="'taken' is registered already"):
        registry.register(Plugin(_backend("taken")), "taken")


def test_two_packages_may_not_offer_one_name(folder):
    install(folder, "same", good("same"), distribution="fake-first")
    install(folder, "same", good("same"), distribution="fake-second")
    with pytest.raises(qcore.BackendError, match=r"several packages: fake-\w+ and fake-\w+") as caught:
        Registry().get("same")
    assert "fake-first" in str(caught.value)
    assert "fake-second" in str(caught.value)
    assert "Remove one of them." in str(caught.value)


def test_a_broken_distribution_beside_ours_breaks_nothing(tmp_path):
    """Truly installed, in another process: the list, the choice and the use of ours go on."""
    install(tmp_path, "aaa_broken", "import sys; sys.exit('no chip')")
    code = (
        "import qcore; r = qcore.registry; print(r.choose('auto').backend.name != 'aaa_broken', "
        "'aaa_broken' in r.names(), len(r.statuses()) >= 2, r.status('aaa_broken').usable)"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "True", "False"]


def test_a_preferred_backend_is_what_auto_means_in_this_process(folder, monkeypatch):
    install(folder, "fast", good("fast", priority=2))
    install(folder, "slow", good("slow"))
    install(folder, "absent", good("absent", ok=False, reason="no chip found"))
    registry = Registry()
    changes = []
    registry.when_changed(lambda: changes.append(1))
    registry.prefer("slow")
    assert registry.preferred == "slow"
    assert registry.choose("auto").backend.name == "slow"
    assert registry.choose("auto").reason == "preferred in this process"
    assert registry.choose("fast").backend.name == "fast"
    with pytest.raises(qcore.BackendError, match="no chip found"):
        registry.prefer("absent")
    assert registry.choose().backend.name == "slow"
    monkeypatch.setenv("QCORE_BACKEND", "fast")
    assert registry.choose().backend.name == "fast"
    monkeypatch.delenv("QCORE_BACKEND")
    registry.prefer(None)
    assert registry.choose().backend.name == "fast"
    assert len(changes) == 2
