"""Loss of the device, noticed and named: the result says truthfully whether the product or the lab failed."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_power.driver import MockPower
from runs import exporter_process, running, until, wait_for
from standalone import serving_drivers

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.lab import Lab

ActiveLeases = Callable[[], list[Lease]]

HOLD = """
    def test_it(dut, console):
        print("HOLDING", flush=True)
        console.expect("never", timeout=60)
    def test_later(dut):
        dut.power.on()
    def test_without():
        pass
"""


@pytest.fixture
def ours(active_leases: ActiveLeases) -> Callable[[], Lease]:
    """Return what finds the one lease of the run."""
    return lambda: next(lease for lease in active_leases() if lease.name.startswith("pj-"))


@pytest.fixture
def whole_board(client: Client) -> Iterator[None]:
    """Wait, when a test has harmed board-1, until its exporter is back."""
    yield
    until(lambda: client.get_exporter("board-1").status == "AVAILABLE", timeout=60)


def test_lease_deleted_by_somebody(suite: pytest.Pytester, client: Client, ours: Callable[[], Lease]) -> None:
    """A lease released by somebody else is a device error: at once for the test that waits, and for later ones."""
    suite.makepyfile(HOLD)
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        client.delete_lease(ours().name)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert output.count("has ended: The lease was marked for release (Released) (seen at ") == 2
    assert "1 passed, 2 device error in" in output
    assert "device error on board-1 (lease pj-" in output
    assert "board-1: 2 device errors" in output


def test_lease_transferred(tmp_path: Path, pytester: pytest.Pytester) -> None:
    """A lease that was transferred to another client is a device error that names the client."""
    (tmp_path / "lab.yaml").write_text(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n"
        "metadata: {name: board-1, labels: {kind: dut}}\n"
        "export:\n  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}\n  console: {ref: board.console}\n"
        "  power: {ref: board.power}\n"
    )
    with Lab([tmp_path / "lab.yaml"], clients=["colleague"]) as lab, Client.from_config(lab.client_config) as client:
        pytester.makeini(f"[pytest]\njmp_client = {lab.client_config}\njmp_selector = kind=dut\n")
        pytester.makepyfile(HOLD)
        with running(pytester, "--jmp-ttl=10s") as process:
            wait_for(process.stdout, "HOLDING")
            client.update_lease(next(client.list_leases()).name, duration=60, client="colleague")
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "was transferred to client 'colleague'" in output
    assert "jmp delete leases" not in output, "it is not ours to release"


@pytest.mark.usefixtures("whole_board")
def test_exporter_killed_while_a_test_waits(suite: pytest.Pytester, lab: Lab) -> None:
    """An exporter that dies while a test waits for the console is a device error, not a timeout of the product."""
    suite.makepyfile(HOLD)
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        os.kill(exporter_process(lab, "board-1"), signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "1 passed, 2 device error in" in output


@pytest.mark.usefixtures("whole_board")
def test_exporter_killed_between_calls(suite: pytest.Pytester, lab: Lab) -> None:
    """A driver call to an exporter that died before it is a device error."""
    suite.makepyfile(
        """
        import sys
        def test_it(dut):
            print("HOLDING", flush=True)
            sys.stdin.readline()
            dut.power.on()
        """
    )
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        os.kill(exporter_process(lab, "board-1"), signal.SIGKILL)
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "1 device error in" in output


@pytest.mark.parametrize("option", ["--pdb", "--trace"])
def test_nobody_is_interrupted_at_a_prompt(
    suite: pytest.Pytester, client: Client, ours: Callable[[], Lease], option: str
) -> None:
    """A person at a debugger's prompt is left alone when the device is lost: with --pdb always, else at the prompt."""
    long_enough = "__import__('time').sleep(12)"  # longer than it takes to notice, and then to end a test that waits
    suite.makepyfile(
        f"""
        import sys
        def test_it(dut):
            print("HOLDING", flush=True)
            {long_enough if option == "--pdb" else ""}
            print("WENT ON", flush=True)
        """
    )
    with running(suite, option, "--jmp-ttl=10s") as process:
        assert process.stdin is not None
        if option == "--trace":
            process.stdin.write("next\n")
            process.stdin.flush()
        wait_for(process.stdout, "HOLDING")
        client.delete_lease(ours().name)
        output = process.communicate(f"{long_enough}\ncontinue\n" if option == "--trace" else "", timeout=60)[0]
    assert "WENT ON" in output
    assert "LeaseLost" not in output


def test_blocked_test_is_ended(suite: pytest.Pytester, client: Client, ours: Callable[[], Lease]) -> None:
    """A test that does not touch its lost device, but blocks, is ended all the same."""
    suite.makepyfile(
        """
        import time
        def test_it(dut):
            print("HOLDING", flush=True)
            time.sleep(120)
        """
    )
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        client.delete_lease(ours().name)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "1 device error in" in output


def test_nothing_is_interrupted_but_tests(suite: pytest.Pytester, client: Client, ours: Callable[[], Lease]) -> None:
    """A report that takes long is not interrupted: the test that it is of has noticed the loss by itself."""
    suite.makeconftest("import time\ndef pytest_exception_interact(): time.sleep(12)")
    suite.makepyfile(
        """
        def test_it(dut):
            print("HOLDING", flush=True)
            while True: dut.power.on()
        """
    )
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        client.delete_lease(ours().name)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "INTERNALERROR" not in output


def test_next_lease_is_another(suite: pytest.Pytester) -> None:
    """Where each test has a lease of its own, the loss of one is no error of the next."""
    suite.makepyfile(
        """
        def test_lost(dut, jumpstarter):
            jumpstarter.client.delete_lease(dut.lease.name)
            while True:
                dut.power.on()
        def test_next(dut): dut.power.on()
        """
    )
    result = suite.runpytest("--jmp-scope=function")
    result.stdout.fnmatch_lines(["*= 1 passed, 1 device error in *"])


def test_healthy_device_is_not_blamed(suite: pytest.Pytester) -> None:
    """A console that stays silent and a driver that refuses are the product's failures, as are assertions."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import DeviceError
        def test_silent(dut, console):
            console.expect("never", timeout=0.5)
        def test_refused(dut):
            dut.power.call("no_such_method")
        def test_assertion(dut):
            try:
                raise DeviceError("in an assertion's cause")
            except DeviceError as exc:
                raise AssertionError("x") from exc
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=3)
    assert result.ret == 1


def test_classify_error_hook(suite: pytest.Pytester) -> None:
    """A hook can say that an error it knows is the lab's."""
    suite.makeconftest(
        """
        def pytest_jumpstarter_classify_error(error, item):
            if "relay" in str(error):
                return "the relay card is stuck"
        """
    )
    suite.makepyfile(
        """
        def test_it(dut): raise RuntimeError("relay 4 does not answer")
        def test_other(dut): raise RuntimeError("something else")
        def test_never(dut): assert not "relay"
        """
    )
    result = suite.runpytest()
    result.stdout.fnmatch_lines(["*the relay card is stuck*", "*2 failed, 1 device error in*"])
    assert result.ret == 1


def test_junit(suite: pytest.Pytester) -> None:
    """A device error in the call phase is an <error type="device error"> in JUnit, and counted as an error."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        def test_lost(dut): raise ExporterOffline("gone")
        def test_failed(dut): assert False
        """
    )
    suite.runpytest("--junitxml=report.xml")
    suite_element = ET.parse(suite.path / "report.xml").getroot()[0]
    assert (suite_element.get("errors"), suite_element.get("failures")) == ("1", "1")
    errors = list(suite_element.iter("error"))
    assert [error.get("type") for error in errors] == ["device error"]
    assert "gone" in (errors[0].get("message") or "")


def test_one_loss_is_one_verdict(suite: pytest.Pytester) -> None:
    """An error in teardown that follows from the loss joins the verdict of the test."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import ExporterOffline
        @pytest.fixture
        def powered(dut):
            yield
            raise ExporterOffline("still gone")
        def test_lost(powered): raise ExporterOffline("gone")
        """
    )
    result = suite.runpytest()
    result.stdout.fnmatch_lines(["*= 1 device error in *"])
    assert result.ret == 8


def test_device_error_under_xdist(suite: pytest.Pytester) -> None:
    """The verdict travels from the worker to the process that prints, exit code included."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        def test_lost(dut): raise ExporterOffline("gone")
        def test_good(): pass
        """
    )
    result = suite.runpytest("-n1")
    result.stdout.fnmatch_lines(["DEVICE ERROR *test_lost (call)", "*1 passed, 1 device error in *"])
    assert result.ret == 8


def test_hang_up_inside_a_shell(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a `jmp shell` SIGHUP says that the lease is over: a device error for every test left that needs it."""
    pytester.makepyfile(
        """
        import os, signal, time
        def test_it(dut):
            dut.power.on()
            print("HOLDING", flush=True)
            time.sleep(60)
        def test_later(dut):
            dut.power.on()
        def test_without():
            pass
        """
    )
    board = cast(Any, Composite)(children={"power": cast(Any, MockPower)()})  # they inherit abstract stubs
    with serving_drivers(board) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        with running(pytester) as process:
            wait_for(process.stdout, "HOLDING")
            process.send_signal(signal.SIGHUP)
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert output.count("the jmp shell around this run says that its lease is over (SIGHUP) (seen at") == 2
    assert "1 passed, 2 device error in" in output
