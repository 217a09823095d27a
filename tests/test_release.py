"""No lease outlives its run: after any run the lab shows none of it, active or pending."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from runs import occupied, running, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease

ActiveLeases = Callable[[], list[Lease]]

SUITES = {
    "pass": "def test_it(dut): dut.power.on()",
    "fail": "def test_it(dut): assert dut.power.on() is ...",
    "error in setup": """
        import pytest
        @pytest.fixture
        def broken(dut): raise RuntimeError("no")
        def test_it(broken): pass
    """,
    "error in teardown": """
        import pytest
        @pytest.fixture
        def broken(dut):
            yield
            raise RuntimeError("no")
        def test_it(broken): pass
    """,
    "exit": "import pytest\ndef test_it(dut): pytest.exit('enough')",
    "skip": "import pytest\ndef test_it(dut): pytest.skip('no')",
}


@pytest.mark.parametrize("name", SUITES)
def test_whatever_happens_in_the_test(suite: pytest.Pytester, active_leases: ActiveLeases, name: str) -> None:
    """Pass, fail, error, skip or exit: the lease was there, and is gone."""
    suite.makeconftest("def pytest_jumpstarter_lease_acquired(lease): print('ACQUIRED')")
    suite.makepyfile(SUITES[name])
    suite.runpytest("-s").stdout.fnmatch_lines(["*ACQUIRED*"])
    assert active_leases() == []


def test_stop_at_the_first_failure(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """-x leaves the other tests and no lease behind."""
    suite.makepyfile("def test_a(dut): assert False\ndef test_b(dut): pass")
    suite.runpytest("-x").assert_outcomes(failed=1)
    assert active_leases() == []


def test_a_lost_fixture_is_caught_by_unconfigure(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """If the fixture never gets to its teardown, the end of the run gives the board back."""
    suite.makeconftest(
        """
        def pytest_sessionfinish(session):
            session._setupstate.stack.clear()   # as if every teardown were lost
        """
    )
    suite.makepyfile(
        """
        from pytest_jumpstarter.leasing import Wanted
        def test_it(jumpstarter):
            held = jumpstarter.device(Wanted(role="dut", selector="kind=dut"))
            held.__enter__()
            __builtins__["kept_by_the_test"] = held   # or the collector would finish the generator
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)
    assert active_leases() == []


def test_interrupt_in_a_test(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Ctrl-C in a test that waits for the board gives it back before the process ends."""
    suite.makepyfile(
        """
        def test_it(dut, console):
            print("HOLDING", flush=True)
            console.expect("never", timeout=60)
        """
    )
    with running(suite) as process:
        wait_for(process.stdout, "HOLDING")
        assert len(active_leases()) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert active_leases() == []


def test_interrupt_while_giving_back(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Ctrl-C in the very call that gives the board back at the end does not keep it."""
    suite.makeconftest(
        """
        import os, signal
        from pytest_jumpstarter.client.v1 import Client

        delete = Client.delete_lease

        def interrupted(self, name, **more):
            Client.delete_lease = delete
            os.kill(os.getpid(), signal.SIGINT)   # which the process notices before it goes on
            return delete(self, name, **more)

        Client.delete_lease = interrupted
        """
    )
    suite.makepyfile("def test_it(dut): pass")
    with running(suite) as process:
        assert process.wait(timeout=60) == 130
    assert active_leases() == []


def test_interrupt_while_waiting(suite: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """Ctrl-C in the queue takes the pending lease back; the wait was visible meanwhile."""
    suite.makepyfile("def test_it(dut): pass")
    with occupied(client) as other:
        with running(suite) as process:
            wait_for(process.stdout, "for kind=dut: 1 match, 1 leased (by ")
            assert len(active_leases()) == 2
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        assert [lease.name for lease in active_leases()] == [other.name]


def test_busy_past_the_wait(suite: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """When all are leased past --jmp-wait, the error says by whom, and the second test does not wait again."""
    suite.makepyfile("def test_a(dut): pass\ndef test_b(dut): pass")
    with occupied(client) as other:
        result = suite.runpytest("--jmp-wait=1s")
        assert result.ret == 8
        reason = (
            r"no exporter for kind=dut within 1.0s \(--jmp-wait; asked at [\d:]{8}\): 1 match, 1 leased \(by default\)"
        )
        assert len(re.findall(reason, result.stdout.str())) == 2
        result.stdout.fnmatch_lines(["* 2 device error in *"])
        assert [lease.name for lease in active_leases()] == [other.name]
    ours = [lease for lease in client.list_leases(only_active=False) if lease.name.startswith("pj-")]
    assert all(lease.is_ended for lease in ours)


def test_waits_its_turn(suite: pytest.Pytester, client: Client) -> None:
    """A board that becomes free while we wait is ours."""
    suite.makepyfile("def test_it(dut): dut.power.on()")
    with occupied(client) as other, running(suite) as process:
        wait_for(process.stdout, "waiting")
        client.delete_lease(other.name)
        assert process.wait(timeout=30) == 0


def test_release_that_fails(suite: pytest.Pytester, client: Client) -> None:
    """A board that cannot be given back is shown with the command that does it, and the run does not end with 0."""
    suite.makepyfile(
        """
        def test_it(dut, jumpstarter):
            print("LEASE", dut.lease.name)
            jumpstarter.client.token = "not.a.token"
        """
    )
    result = suite.runpytest("-s", "--jmp-ttl=5s")
    name = next(line.split()[-1] for line in result.outlines if "LEASE" in line)
    assert result.ret == 8
    result.stdout.fnmatch_lines(["*jumpstarter: not released*", f"lease {name} may still be held: *"])
    result.stdout.fnmatch_lines([f"*jmp delete leases {name}"])
    client.delete_lease(name)
