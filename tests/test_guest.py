"""Shared plugins that have a `dut` of their own, and hosts that collect more than once in a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_jumpstarter.client.v1 import Lease

IMPORTS = "import pytest\nfrom pytest_jumpstarter import device_fixture\n"
SHARED = {
    "device": "dut = device_fixture(selector='kind=gateway')",
    "on a device of another name": """
board = device_fixture(selector='kind=gateway')
@pytest.fixture
def dut(board): return board
""",
    "on the run": """
@pytest.fixture
def dut(jumpstarter): return jumpstarter
""",
}
TEST = "def test_it(dut): print('GOT', getattr(dut, 'exporter', dut))"
LOADERS = {"-p": ("-p", "shared"), "pytest_plugins": ()}


def load(pytester: pytest.Pytester, loader: str, source: str) -> tuple[str, ...]:
    """Write a shared plugin and a test, and return the options that load the plugin."""
    pytester.makepyfile(shared=IMPORTS + source, test_it=TEST)
    pytester.syspathinsert()
    if loader == "pytest_plugins":
        pytester.makeconftest("pytest_plugins = ['shared']")
    return LOADERS[loader]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("source", SHARED.values(), ids=SHARED)
def test_dut_of_a_shared_plugin(suite: pytest.Pytester, loader: str, source: str) -> None:
    """A shared plugin's `dut` that uses ours is in force, also if options are set."""
    args = load(suite, loader, source)
    suite.makeini(
        "\n".join(line for line in (suite.path / "tox.ini").read_text().splitlines() if "selector" not in line)
    )
    result = suite.runpytest("-s", *args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*GOT *board-2*" if "board" in source or "device_fixture(" in source else "*GOT *Run *"]
    )


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("is_set", [True, False], ids=["option set", "no option"])
def test_dut_of_a_shared_plugin_over_ours(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, loader: str, is_set: bool
) -> None:
    """A shared plugin's `dut` that requests `dut` overrides ours."""
    args = load(suite, loader, "@pytest.fixture\ndef dut(dut): return ['theirs', dut]")
    if is_set:
        suite.runpytest("-s", *args).stdout.fnmatch_lines(["*GOT *'theirs', <Device dut (board-1)*"])
    else:
        suite.makeini("[pytest]\n")
        suite.runpytest("-s", *args).stdout.fnmatch_lines(["*no source of devices is configured*"])


def test_dut_of_a_stranger(suite: pytest.Pytester) -> None:
    """A `dut` that has nothing to do with ours is replaced as soon as an option of ours is set."""
    args = load(suite, "-p", "@pytest.fixture\ndef dut(): return 'a stranger'")
    suite.runpytest("-s", *args).stdout.fnmatch_lines(["*GOT *board-1*"])
    suite.makeini("[pytest]\n")
    suite.runpytest("-s", *args).stdout.fnmatch_lines(["*GOT a stranger*"])


# As xdist's `--looponfail` does, and what else a host may do.
HOSTS = {
    "as looponfail": """
        session.perform_collect()
        session.ihook.pytest_collection_modifyitems(session=session, config=session.config, items=session.items)
        session.ihook.pytest_collection_finish(session=session)
        return True
    """,
    "a part, then all": """
        session.perform_collect(["test_it.py::test_dut"])
        session.perform_collect()
        return True
    """,
    "all, then a part without devices": """
        session.perform_collect()
        session.perform_collect(["test_it.py::test_none"])
        return True
    """,
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
@pytest.mark.parametrize("arg", ["--jmp-retries=1", "--collect-only"])
def test_collecting_twice(
    suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], host: str, arg: str
) -> None:
    """A host may collect more than once; the tests of the last collection count."""
    suite.makeconftest(f"def pytest_collection(session):\n{host}")
    suite.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.jumpstarter(requires=["power"])
        def test_dut(dut): dut.power.on()
        def test_none(): pass
        @pytest.mark.jumpstarter(requires=["missing"])
        def test_missing(dut): pass
        """
    )
    result = suite.runpytest(arg)
    if arg == "--collect-only":
        assert result.ret == 0
    elif "test_none" in host:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(passed=2, skipped=1)
    assert active_leases() == []


GREEN = """
    import sys, types
    patcher = types.ModuleType("patcher")
    patcher.is_monkey_patched = lambda name: name == "socket"
    sys.modules["eventlet.patcher"] = patcher
"""


def test_greenlets(suite: pytest.Pytester) -> None:
    """A run with devices is refused where only sockets are patched; without devices it runs. See neighbours.py, too."""
    suite.makeconftest(GREEN)
    suite.makepyfile(test_it="def test_it(dut): pass", test_none="def test_none(): pass")
    result = suite.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: eventlet has patched socket, but a device needs real threads and sockets*"])
    suite.runpytest_subprocess("test_none.py").assert_outcomes(passed=1)
