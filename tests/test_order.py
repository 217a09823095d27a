"""The order of tests, and for how long it lets boards be held."""

from __future__ import annotations

import re

import pytest

CONFTEST = """
    import pytest, time
    from pytest_jumpstarter import device_fixture
    gateway = device_fixture(selector="kind=gateway")
    taken = []
    def pytest_jumpstarter_lease_acquired(lease): taken.append(time.monotonic())
    def pytest_jumpstarter_lease_released(lease): print("HELD", time.monotonic() - taken[-1])
    @pytest.fixture(scope="module")
    def prepared(): pass
"""
MODULES = {
    "test_1": """
        def test_dut(dut): pass
        def test_none(): pass
    """,
    "test_2": """
        class TestGateway:
            def test_gateway(self, gateway): pass
        class TestNone:
            def test_none(self): pass
        def test_last(): pass
    """,
    "test_3": """
        class TestShared:
            def test_gateway(self, gateway, prepared): pass
        def test_none(prepared): pass
    """,
    "test_4": """
        def test_none(): pass
    """,
    "test_5": """
        def test_dut(dut): pass
    """,
}
AS_WRITTEN = [
    "test_1:test_dut", "test_1:test_none", "test_2:test_gateway", "test_2:test_none", "test_2:test_last",
    "test_3:test_gateway", "test_3:test_none", "test_4:test_none", "test_5:test_dut",
]  # fmt: skip
ARRANGED = [
    "test_2:test_none", "test_2:test_last", "test_4:test_none", "test_1:test_dut", "test_1:test_none",
    "test_5:test_dut", "test_2:test_gateway", "test_3:test_gateway", "test_3:test_none",
]  # fmt: skip


def order(pytester: pytest.Pytester, *args: str) -> list[str]:
    """Return module and name of the tests in the order in which they would run."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**MODULES)
    result = pytester.runpytest("--collect-only", "-q", "--jmp-selector=kind=dut", *args)
    return [re.sub(r"\.py::(.*::)?", ":", line) for line in result.outlines if "::" in line]


def test_devices_last_and_grouped(pytester: pytest.Pytester) -> None:
    """Modules without devices come first, then one device after the other; a class moves where it alone needs one."""
    assert order(pytester) == ARRANGED


@pytest.mark.parametrize("arg", ["--jmp-order=off", "--ff", "--stepwise"])
def test_others_order(pytester: pytest.Pytester, arg: str) -> None:
    """Who asks for another order gets it."""
    assert order(pytester, arg) == AS_WRITTEN


def test_last_failed(suite: pytest.Pytester) -> None:
    """`--lf`, `-x` and `--stepwise` do with devices what they do without."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        test_it="def test_1(dut): assert dut.console is None\ndef test_2(dut): pass\ndef test_3(gateway): pass"
    )
    suite.runpytest("-x").assert_outcomes(failed=1)
    suite.runpytest("--lf").assert_outcomes(failed=1)
    suite.runpytest("--stepwise").assert_outcomes(failed=1)
    suite.runpytest("--ff").assert_outcomes(failed=1, passed=2)


@pytest.mark.parametrize("arg", ["--setup-plan", "--setup-show", "--collect-only"])
def test_setup_plan(suite: pytest.Pytester, arg: str) -> None:
    """Fixtures of devices are shown like others; what only plans or collects leases nothing."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile("def test_none(): pass\ndef test_it(dut, gateway): pass")
    result = suite.runpytest("-s", arg)
    assert result.ret == 0
    assert ("SETUP    S dut" in result.stdout.str()) is (arg != "--collect-only")
    assert ("HELD" in result.stdout.str()) is (arg == "--setup-show")


def test_held_for_its_tests_only(suite: pytest.Pytester) -> None:
    """A board is held while its tests run, not while others do before."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        test_a="import time\ndef test_1(dut): time.sleep(0.2)",
        test_b="import time\ndef test_2(): time.sleep(3)",
    )
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=2)
    [held] = [float(line.split()[-1]) for line in result.outlines if "HELD" in line]
    assert held < 3


def test_warm_up(suite: pytest.Pytester) -> None:
    """While other tests run the lab controller is asked whether it has what will be wanted, and it is said if not."""
    suite.makepyfile(
        """
        import threading
        def join(name):
            for thread in threading.enumerate():
                if thread.name == name:
                    thread.join()
        def test_1(): join("jumpstarter-imports")
        def test_2(): join("jumpstarter-connect")
        def test_3(): print("THIRD")
        def test_4(dut): pass
        """
    )
    result = suite.runpytest("-s", "-p", "no:randomly", "--jmp-selector=board=nonsense")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*no exporter matches board=nonsense; the lab has board=virtual (2)*", "*THIRD*"])


# What pytest-randomly 5.1 is to us: a plugin of this name, and an option by which it leaves the order alone.
RANDOMLY = """
    def pytest_addoption(parser):
        parser.addoption("--randomly-dont-reorganize", dest="randomly_reorganize", action="store_false", default=True)
"""


def test_beside_a_plugin_that_shuffles(pytester: pytest.Pytester) -> None:
    """Where pytest-randomly shuffles, the order is its own; where it does not, or is off, the order is ours."""
    pytester.makepyfile(randomly=RANDOMLY)
    pytester.syspathinsert()
    assert order(pytester, "-p", "randomly") == AS_WRITTEN
    assert order(pytester, "-p", "randomly", "--randomly-dont-reorganize") == ARRANGED
    assert order(pytester, "-p", "no:randomly") == ARRANGED


def test_fixtures_of_classes_and_modules(suite: pytest.Pytester) -> None:
    """Fixtures of any scope over `dut` are made once for their scope, on one lease."""
    suite.makeconftest("def pytest_jumpstarter_lease_acquired(lease): print('ACQUIRED')")
    suite.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="module")
        def booted(dut): print("MADE booted"); return dut
        @pytest.fixture(scope="class")
        def logged_in(booted): print("MADE logged_in"); return booted
        class TestA:
            def test_1(self, logged_in): logged_in.power.on()
            def test_2(self, logged_in): logged_in.power.on()
        class TestB:
            def test_3(self, logged_in, dut): assert logged_in is dut
        """
    )
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=3)
    shown = result.stdout.str()
    assert [shown.count(word) for word in ("ACQUIRED", "MADE booted", "MADE logged_in")] == [1, 1, 2]
