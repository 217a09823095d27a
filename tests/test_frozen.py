"""What tests freeze, kill and start again: processes of a lab, and the network between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faulty import FaultyLab
from runs import frozen, until

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import ControllerUnreachable, RequestTimeout


def answers(client: Client) -> bool:
    """Tell whether the lab controller answers within a second."""
    try:
        return client.get_exporter("board-1", timeout=1.0).name == "board-1"
    except (ControllerUnreachable, RequestTimeout):
        return False


def silent(client: Client) -> bool:
    """Tell whether a call ends by its deadline."""
    with pytest.raises(RequestTimeout):
        client.get_exporter("board-1", timeout=1.0)
    return True


def test_lab(boards: FaultyLab) -> None:
    """A frozen lab takes calls and answers none; when it goes on it answers again."""
    with Client.from_config(boards.config) as client:
        assert answers(client)
        with frozen(boards.pid):
            assert silent(client)
        assert answers(client)


def test_for_some_time(boards: FaultyLab) -> None:
    """What is frozen for some seconds goes on by itself while the test does something else."""
    with Client.from_config(boards.config) as client, frozen(boards.pid, seconds=1.5):
        assert silent(client)
        until(lambda: answers(client), timeout=20)


def test_thawed_after_a_failure(boards: FaultyLab) -> None:
    """A test that fails leaves nothing frozen."""
    with pytest.raises(ZeroDivisionError), frozen(boards.pid, boards.exporter_process("board-1")):
        raise ZeroDivisionError
    with Client.from_config(boards.config) as client:
        assert answers(client)


@pytest.mark.parametrize("harm", ["killed", "frozen"])
def test_own_way(boards: FaultyLab, harm: str) -> None:
    """Where only the way of clients is gone or frozen, others reach the lab controller, and it is back afterwards."""
    with boards.own_way() as (way, config), Client.from_config(config) as client:
        assert answers(client)
        if harm == "killed":
            way.kill()
            with pytest.raises(ControllerUnreachable):
                client.get_exporter("board-1", timeout=1.0)
            assert boards.status("board-1") == "AVAILABLE"
            way.start()
        else:
            with frozen(way.pid):
                assert silent(client)
                assert boards.status("board-1") == "AVAILABLE"
        until(lambda: answers(client), timeout=20)


@pytest.fixture
def call(boards: FaultyLab, pytester: pytest.Pytester) -> Callable[[], pytest.RunResult]:
    """Return what runs a suite whose one test calls a driver."""
    pytester.makepyfile("def test_it(dut): dut.counter.call('count', 'it', 0)")
    return lambda: pytester.runpytest_subprocess("--jmp-ttl=5s")


def test_own_router(boards: FaultyLab, call: Callable[[], pytest.RunResult]) -> None:
    """A router in a process of its own carries the calls of drivers; the lab controller does without it."""
    with boards.own_router() as router:
        call().assert_outcomes(passed=1)
        router.kill()
        result = call()
        assert result.ret != 0
        assert boards.status("board-1") in ("AVAILABLE", "LEASE_READY", "AFTER_LEASE_HOOK")
        router.start()
        until(lambda: boards.leases() == [], timeout=60)
        call().assert_outcomes(passed=1)
    assert boards.calls == ["it", "it"]
