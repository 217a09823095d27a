"""A suite that asks for no device pays for an option table, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("grpc", "google.protobuf", "jumpstarter", "jumpstarter_protocol", "yaml", "pydantic", "anyio", "asyncio")

SUITE = """
    def test_nothing():
        pass
"""

# What the process has at the very end, written down by a hook of the suite itself.
WITNESS = """
    import builtins, io, json, os, signal, socket, sys, threading
    import pytest

    opened, sockets = [], []

    def audit(event, args):
        if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            opened.append(os.fsdecode(args[0]))
        elif event == "socket.__new__":
            sockets.append(event)

    sys.addaudithook(audit)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(config):
        changed = [int(n) for n in handlers if signal.getsignal(n) is not handlers[n]]
        seen = {"modules": sorted(sys.modules), "opened": opened, "sockets": sockets,
                "threads": threading.active_count(), "signals": changed}
        with open(os.environ["WITNESS"], "w") as file:
            json.dump(seen, file)
"""


@pytest.fixture
def seen(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a suite without devices in a process of its own, and return what was there in the end."""
    pytester.makepyfile(test_it=SUITE)
    pytester.makeconftest(WITNESS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*args: str) -> dict[str, Any]:
        witness = Path(pytester.path, "witness.json")
        monkeypatch.setenv("WITNESS", str(witness))
        pytester.runpytest_subprocess(*args).assert_outcomes(passed=1)
        found: dict[str, Any] = json.loads(witness.read_text())
        return found

    run("-p", "no:cacheprovider")  # compiles the byte code that the runs after this one find
    return run


def test_unused_loads_nothing_heavy(seen: Any) -> None:
    """At the end of the run at most 10 modules more are loaded, none of them heavy."""
    without = seen("-p", "no:cacheprovider", "-p", "no:jumpstarter")
    with_us = seen("-p", "no:cacheprovider", "-p", "pytest_jumpstarter.plugin")
    more = set(with_us["modules"]) - set(without["modules"])
    assert "pytest_jumpstarter.plugin" in more
    assert len(more) <= 10, sorted(more)
    assert not [name for name in more if name.split(".")[0] in HEAVY or name.startswith(HEAVY)]


def test_unused_touches_nothing(seen: Any) -> None:
    """The run reads no file but its own code, opens no socket, starts no thread, sets no signal handler."""
    without = seen("-p", "no:cacheprovider", "-p", "no:jumpstarter")
    with_us = seen("-p", "no:cacheprovider", "-p", "pytest_jumpstarter.plugin")
    ours = [path for path in with_us["opened"] if path not in without["opened"]]
    assert not [path for path in ours if not path.endswith((".py", ".pyc")) and not Path(path).is_dir()]
    assert with_us["sockets"] == without["sockets"]
    assert with_us["threads"] == without["threads"]
    assert with_us["signals"] == without["signals"]
