"""Sets of devices: all or none, nothing held while waiting, one lease from the first test to the last."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from runs import occupied, running, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.running.schedule import sets_of

ActiveLeases = Callable[[], list[Lease]]

CONFTEST = """
    import pytest
    from pytest_jumpstarter import device_fixture

    gateway = device_fixture(selector="kind=gateway", scope="module")
    mock = device_fixture(selector="board=mock")

    def pytest_jumpstarter_lease_acquired(lease, role): print("ACQUIRED", role)
    def pytest_jumpstarter_lease_released(lease, role): print("RELEASED", role)
"""


@pytest.fixture
def two(suite: pytest.Pytester) -> pytest.Pytester:
    """Return a suite that knows two more roles and prints what happens to leases."""
    suite.makeconftest(CONFTEST)
    return suite


def events(result: pytest.RunResult) -> list[str]:
    """Return what happened to leases and tests, in order."""
    found = (re.search(r"(ACQUIRED|RELEASED|TEST|ENDED) .*", line) for line in result.outlines)
    return [match[0] for match in found if match]


def test_sets_are_what_tests_ask_for_together() -> None:
    """Any two roles that a test asks for together are in one set, and so are those of overlapping tests."""
    sets = sets_of([["a"], ["a", "b"], [], ["d"], ["c", "b"], ["e", "f"]])
    assert sets == {
        **dict.fromkeys("abc", frozenset("abc")),
        **dict.fromkeys("ef", frozenset("ef")),
        "d": frozenset("d"),
    }


def test_acquired_and_given_back_as_one(two: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A set comes with the first test that needs a member and goes with the last, whatever the scopes."""
    two.makepyfile(
        test_a="def test_1(dut): print('TEST 1')",
        test_b="def test_2(dut, gateway): print('TEST 2')",
        test_c="def test_3(gateway): print('TEST 3')",
        test_d="def test_4(mock): print('TEST 4')",
    )
    result = two.runpytest("-s")
    result.assert_outcomes(passed=4)
    found = events(result)
    assert sorted(found[:2]) == ["ACQUIRED dut", "ACQUIRED gateway"]
    assert found[2:5] == ["TEST 1", "TEST 2", "TEST 3"]
    assert sorted(found[5:7]) == ["RELEASED dut", "RELEASED gateway"]
    assert found[7:] == ["ACQUIRED mock", "TEST 4", "RELEASED mock"]
    assert active_leases() == []


def test_fixtures_over_a_device_end_before_it(two: pytest.Pytester) -> None:
    """What uses a device is torn down, innermost first, before the device goes back early."""
    two.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def booted(dut):
            dut.power.on(); yield dut; dut.power.off(); print("ENDED booted")
        @pytest.fixture(scope="session")
        def shell(booted):
            yield booted; booted.power.on(); print("ENDED shell")
        def test_1(shell): print("TEST 1")
        def test_2(mock): print("TEST 2")
        """
    )
    result = two.runpytest("-s")
    result.assert_outcomes(passed=2)
    assert events(result) == [
        "ACQUIRED dut", "TEST 1", "ENDED shell", "ENDED booted", "RELEASED dut", "ACQUIRED mock", "TEST 2",
        "RELEASED mock",
    ]  # fmt: skip


def test_failure_in_early_teardown_is_the_tests(two: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A fixture that fails when a device goes back early is an error of the last test that needed it."""
    two.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def booted(dut):
            yield dut
            raise RuntimeError("stuck")
        def test_1(booted): pass
        def test_2(mock): pass
        """
    )
    result = two.runpytest()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_1*", "*RuntimeError: stuck*"])
    assert active_leases() == []


def test_fetched_by_name_is_kept(two: pytest.Pytester) -> None:
    """A device that a wider fixture got by `getfixturevalue` stays until the end, since nobody knows who needs it."""
    two.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def bench(request): return request.getfixturevalue("dut")
        def test_1(dut, bench): print("TEST 1")
        def test_2(mock): print("TEST 2")
        def test_3(bench): bench.power.on(); print("TEST 3")
        def test_4(request): request.getfixturevalue("mock"); print("TEST 4")
        """
    )
    result = two.runpytest("-s")
    result.assert_outcomes(passed=4)
    assert events(result)[:6] == ["ACQUIRED dut", "TEST 1", "ACQUIRED mock", "TEST 2", "RELEASED mock", "TEST 3"]


def test_other_parameter_is_another_set(two: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Where a test wants another device for a role, all of the set go back and are acquired anew."""
    two.makepyfile(
        """
        import pytest
        pair = pytest.mark.parametrize("mock", ["board=mock", "board=hooked"], indirect=True)
        @pair
        def test_it(mock, dut): print("TEST", mock.exporter.name, dut.exporter.name)
        """
    )
    result = two.runpytest("-s")
    result.assert_outcomes(passed=2)
    assert [line.split()[0] for line in events(result)] == [*["ACQUIRED"] * 2, "TEST", *["RELEASED"] * 2] * 2
    assert active_leases() == []


def test_nothing_is_held_while_waiting(two: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """While one of two is taken the other stays free for others; both come as soon as they can."""
    two.makepyfile("def test_it(dut, gateway, mock): print('TEST')")
    with occupied(client) as other, running(two) as run:
        wait_for(run.stdout, "waiting")
        ready = {lease.name for lease in active_leases() if lease.is_ready}
        assert ready == {other.name}
        client.delete_lease(other.name)
        wait_for(run.stdout, "TEST")
        wait_for(run.stdout, "1 passed")
        assert run.wait(20) == 0
    assert active_leases() == []


@pytest.mark.parametrize(("selector", "code"), [("board=absent", 8), ("board=nonsense", 1)])
def test_all_or_none(two: pytest.Pytester, active_leases: ActiveLeases, selector: str, code: int) -> None:
    """Where one cannot be had the others go back, and whoever wants one of them alone has it."""
    two.makepyfile(test_a="def test_1(dut, gateway): pass", test_b="def test_2(mock): mock.power.on()")
    result = two.runpytest(f"--jmp-selector=gateway:{selector}", "--jmp-wait=2s")
    assert result.ret == code
    assert "1 passed" in result.stdout.str()
    assert ("(dut, gateway are leased together, all or none)" in result.stdout.str()) == (code == 8)
    assert active_leases() == []


def test_lost_member(two: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A fixture of narrow scope gets another lease after a loss; the handle of the lost one says so."""
    two.makepyfile(
        """
        def test_1(dut, jumpstarter):
            jumpstarter.client.delete_lease(dut.lease.name)
            while True: dut.power.on()
        def test_2(dut): dut.power.on()
        """
    )
    result = two.runpytest("--jmp-scope=function")
    result.stdout.fnmatch_lines(["*1 passed, 1 device error*"])
    assert active_leases() == []


def test_least_capable_match(suite: pytest.Pytester) -> None:
    """Of two that are free the one with fewer labels beyond the selector is leased; the other if it is taken."""
    suite.makeconftest(
        "from pytest_jumpstarter import device_fixture\n"
        "one = device_fixture(selector='board=virtual')\ntwo = device_fixture(selector='board in (virtual)')"
    )
    suite.makepyfile(
        test_a="def test_1(one): assert one.exporter.name == 'board-2'",
        test_b="def test_2(one, two): assert {one.exporter.name, two.exporter.name} == {'board-1', 'board-2'}",
    )
    suite.runpytest("-k", "test_1").assert_outcomes(passed=1, deselected=1)
    suite.runpytest("-k", "test_2").assert_outcomes(passed=1, deselected=1)


def test_what_markers_ask_for_comes_first(suite: pytest.Pytester) -> None:
    """The board that a later test's marker asks for is leased, though another has fewer labels."""
    suite.makeconftest("from pytest_jumpstarter import device_fixture\none = device_fixture(selector='board=virtual')")
    suite.makepyfile(
        """
        import pytest
        def test_any(one): pass
        @pytest.mark.jumpstarter(labels="site=here")
        def test_here(one): assert one.exporter.name == "board-1"
        """
    )
    suite.runpytest().assert_outcomes(passed=2)
