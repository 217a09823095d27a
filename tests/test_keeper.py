"""A lease lasts for as long as it is needed, whatever the test's own thread does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import HOOKS, exporter_document
from runs import running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease
from pytest_jumpstarter.errors import MethodUnavailable
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.from_controller import ControllerSource
from pytest_jumpstarter.leasing.lease_request import DEFAULT_DURATION, LeaseIds, Terms

ActiveLeases = Callable[[], list[Lease]]

TTL = 5.0


def test_interpreter_held_for_half_the_time_to_live(suite: pytest.Pytester) -> None:
    """A library that keeps the interpreter's lock for half the time to live, again and again, costs no lease."""
    suite.makepyfile(
        f"""
        import ctypes, time
        def test_it(dut, jumpstarter):
            for _ in range(4):
                ctypes.PyDLL(None).usleep({int(TTL / 2 * 1e6)})   # PyDLL does not let go of the lock
                time.sleep(0.1)
            assert jumpstarter.client.get_lease(dut.lease.name).is_ready
            dut.power.on()
        """
    )
    suite.runpytest(f"--jmp-ttl={TTL:g}").assert_outcomes(passed=1)


def test_under_pdb(suite: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """At the prompt of --pdb the lease goes on, and it is given back when the person leaves."""
    suite.makepyfile("def test_it(dut): assert dut is None")
    with running(suite, "--pdb", f"--jmp-ttl={TTL:g}") as process:
        wait_for(process.stdout, "AssertionError")
        lease = next(lease for lease in active_leases() if lease.name.startswith("pj-"))
        until(lambda: (client.get_lease(lease.name).duration or 0) > 3 * TTL, timeout=60)
        assert client.get_lease(lease.name).is_ready
        process.communicate("q\n", timeout=60)
    assert active_leases() == []


def test_hook_longer_than_the_time_to_live(tmp_path: Path, pytester: pytest.Pytester) -> None:
    """A beforeLease hook may take longer than the time to live: the lease is kept meanwhile, and the test runs."""
    hook = HOOKS % f"sleep {TTL + 3:g}"
    power = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
    file = tmp_path / "lab.yaml"
    file.write_text(exporter_document("slow-1", "board: slow", power, hook))
    pytester.makepyfile(
        f"""
        def test_it(dut):
            assert dut.lease.duration > {TTL:g}
            dut.power.on()
        """
    )
    result = pytester.runpytest_subprocess(f"--jmp-lab={file}", "--jmp-exporter=slow-1", f"--jmp-ttl={TTL:g}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*slow-1 is BEFORE_LEASE_HOOK*"])


class OldController(Client):
    """A client whose lab controller does not know how to extend a lease, as no controller that we can start does."""

    def update_lease(self, *_: object, **__: object) -> NoReturn:
        """Say what such a controller says."""
        raise MethodUnavailable("UpdateLease: the lab controller does not have this method")


def test_lab_controller_that_cannot_extend(lab: Lab, active_leases: ActiveLeases) -> None:
    """Where a lease cannot be extended, one for a fixed time is asked for instead, and that is said once."""

    class Listener(Events):
        said: list[str] = []  # noqa: RUF012 - of this test alone

        def say(self, line: str) -> None:
            self.said.append(line)

    config = ClientConfig.load(lab.client_config, environ={})
    with OldController.from_config(config) as client:
        source = ControllerSource(client, config, events=Listener(), ids=LeaseIds(), terms=Terms(ttl=TTL), healths={})
        with source.device(Wanted(role="dut", selector="board=mock")) as device:
            device.power.on()
            assert [lease.duration for lease in active_leases()] == [DEFAULT_DURATION]
        source.close()
    assert len([line for line in Listener.said if "cannot extend leases: asking for 30:00" in line]) == 1
    assert active_leases() == []
