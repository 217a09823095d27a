"""The order of tests with board states, a suite whose transitions are counted, and boards that failures leave dirty."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from states_suite import CONFTEST

from pytest_jumpstarter.lab import Lab

ORDERS = int(os.environ.get("STATES_ORDERS", "1"))
"""How many orders the dirty board is tried in, with a shuffle of our own and with pytest-randomly."""

MODULES = {
    "test_1": """
        import pytest
        def test_shell(shell): pass
        def test_off(off): pass
        class TestClass:
            def test_shell(self, shell): pass
            def test_login(self, login): pass
        def test_login(login): pass
        def test_device(dut): pass
        def test_none(): pass
    """,
    "test_2": """
        import pytest
        @pytest.fixture(scope="module")
        def shared(): pass
        def test_shell(shell, shared): pass
        def test_off(off, shared): pass
    """,
    "test_3": """
        def test_gateway(gateway): pass
        def test_shell(shell): pass
        def test_off(off): pass
    """,
}
AS_WRITTEN = [
    *("1:test_shell", "1:test_off", "1:TestClass::test_shell", "1:TestClass::test_login", "1:test_login"),
    *("1:test_device", "1:test_none", "2:test_shell", "2:test_off", "3:test_gateway", "3:test_shell", "3:test_off"),
]


def order(pytester: pytest.Pytester, *args: str) -> list[str]:
    """Return module and name of the tests in the order in which they would run."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**MODULES)
    result = pytester.runpytest("--collect-only", "-q", "-p", "no:randomly", *args)
    return [
        re.sub(r"^test_(\d)\.py::", r"\1:", line) for line in result.outlines if "::test_" in line and "[" not in line
    ]


def test_tests_on_one_state_are_together(pytester: pytest.Pytester) -> None:
    """
    What leads to a state comes before it, across modules; classes stay whole.

    A module whose tests share a fixture is not split; tests move between states inside of it.
    """
    assert order(pytester) == [
        *("1:test_device", "1:test_none", "1:test_off", "3:test_off", "2:test_off", "2:test_shell", "1:test_login"),
        *("1:TestClass::test_login", "1:TestClass::test_shell", "1:test_shell", "3:test_shell", "3:test_gateway"),
    ]


@pytest.mark.parametrize("arg", ["--jmp-order=off", "--ff", "test_1.py test_2.py test_3.py"])
def test_who_has_ordered_keeps_it(pytester: pytest.Pytester, arg: str) -> None:
    """States move nothing that others have ordered."""
    assert order(pytester, *arg.split()) == AS_WRITTEN


def ways(folder: Path) -> list[list[str]]:
    """Return the transitions that the suite noted, in one list for each test that moved a board."""
    found: list[list[str]] = []
    for note in (folder / "notes").read_text().splitlines():
        if note.startswith("["):
            found.append([])
        elif " -> " in note:
            found[-1].append(note.rpartition(" ")[2])
    return [way for way in found if way]


def test_thirty_tests_over_three_states(suite: pytest.Pytester) -> None:
    """They cost three ways, the fewest that are possible; a failure costs one more, from a root."""
    suite.makeconftest(CONFTEST)
    body = (
        "def test_off_{0}(off): pass\ndef test_login_{0}(login): {1}\ndef test_shell_{0}(shell): shell.run('version')\n"
    )
    suite.makepyfile(test_it="".join(body.format(number, "pass") for number in range(10)))
    suite.runpytest("-p", "no:randomly").assert_outcomes(passed=30)
    assert ways(suite.path) == [["off"], ["login"], ["shell"]]
    Path(suite.path, "notes").unlink()
    suite.makepyfile(
        test_it="".join(body.format(number, "assert 0" if number in (3, 6) else "pass") for number in range(10))
    )
    suite.runpytest("-p", "no:randomly").assert_outcomes(passed=28, failed=2)
    assert ways(suite.path) == [["off"], ["login"], *[["off", "login"]] * 2, ["shell"]]


DIRTY = """
import pytest
from pathlib import Path

def dirty(shell):
    # What an innocent test after this one would see: another shell, in which nothing works.
    shell.console.sendline("exit")
    shell.console.expect("login: ")
    assert 0, "a failure that leaves the board dirty"

@pytest.mark.parametrize("number", range(8))
def test_version(shell, number): assert shell.run("version", timeout=3).stdout == "1.0.0"
@pytest.mark.parametrize("number", range(8))
def test_led(shell, led, number): assert shell.run("led", timeout=3).stdout == "led is on"
@pytest.mark.parametrize("number", range(4))
def test_login(login, number): assert login.name
@pytest.mark.parametrize("number", range(4))
def test_off(off, dut, number): assert dut.state.current == "off"
@pytest.mark.parametrize("number", range(6))
def test_dirty(shell, number): dirty(shell)
"""


@pytest.fixture(scope="module")
def dirty(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a suite in which one test in five fails and leaves the board dirty."""
    folder = tmp_path_factory.mktemp("dirty")
    (folder / "pytest.ini").write_text(f"[pytest]\njmp_client = {lab.client_config}\njmp_order = off\n")
    (folder / "conftest.py").write_text(CONFTEST.replace('dut = device_fixture(selector="kind=dut")', "") + SHUFFLE)
    (folder / "test_dirty.py").write_text(DIRTY)
    return folder


SHUFFLE = """

def pytest_addoption(parser):
    parser.addoption("--shuffle", default="")

def pytest_collection_modifyitems(config, items):
    from random import Random
    if config.getoption("shuffle"):
        Random(config.getoption("shuffle")).shuffle(items)
"""


def run_dirty(folder: Path, args: Sequence[str], *, python: str = sys.executable) -> None:
    """Run the suite, in which only those tests fail that are made to."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--jmp-selector=board=virtual", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)\[", done.stdout, re.MULTILINE)
    assert failed == ["test_dirty"] * 6, done.stdout[-4000:]
    assert "6 failed, 24 passed" in done.stdout


@pytest.mark.parametrize("seed", range(1, ORDERS + 1))
def test_a_failure_hurts_no_innocent_test(dirty: Path, seed: int) -> None:
    """One test in five leaves the board dirty; no other test fails, in whatever order they run."""
    run_dirty(dirty, ["-p", "no:randomly", f"--shuffle={seed}"])


@pytest.mark.parametrize("seed", range(1, ORDERS + 1))
def test_a_failure_hurts_no_innocent_test_of_another_worker(dirty: Path, seed: int) -> None:
    """Nor on two boards with two workers."""
    pytest.importorskip("xdist")
    run_dirty(dirty, ["-p", "no:randomly", f"--shuffle={seed}", "-n2"])


@pytest.mark.parametrize("seed", range(1, ORDERS + 1))
def test_beside_randomly(dirty: Path, neighbours: str, seed: int) -> None:
    """Nor where pytest-randomly shuffles."""
    run_dirty(dirty, [f"--randomly-seed={seed}"], python=neighbours)
