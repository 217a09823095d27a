"""`--jmp-hold-on-failure`: the device of the first test that fails is left to people, and no other."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import exporter_document
from runs import running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease

ActiveLeases = Callable[[], list[Lease]]

GATEWAY = "from pytest_jumpstarter import device_fixture\ngateway = device_fixture(selector='kind=gateway')"
FAIL = """
    def test_first(dut): dut.power.on()
    def test_it(dut): assert dut.power.on() is ...
    def test_later(dut): pass
"""


def lines_of(output: str) -> tuple[str, str]:
    """Return the two command lines that a run prints for people."""
    reach = re.search(r"^ *to reach it: +(.*)$", output, re.MULTILINE)
    release = re.search(r"^ *to release it: +(.*)$", output, re.MULTILINE)
    assert reach, output
    assert release, output
    return reach[1], release[1]


def test_failure_holds_the_device(suite: pytest.Pytester, held: ActiveLeases, client: Client) -> None:
    """After the first failure the lease lasts as long as asked for, the run ends with 1, and says how to go on."""
    suite.makeconftest(
        """
        def pytest_jumpstarter_device_release(device): print("PUT AWAY")
        def pytest_jumpstarter_lease_released(lease): print("RELEASED")
        """
    )
    suite.makepyfile(FAIL)
    result = suite.runpytest("-s", "--jmp-hold-on-failure=10m")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    (lease,) = held()
    assert lease.is_ready
    assert 600 <= (lease.duration or 0) <= 660
    result.stdout.fnmatch_lines(
        [
            "after test_failure_holds_the_device.py::test_it failed:",
            "  exporter board-1 is leased until 20??-??-?? ??:??:?? (10:00)",
            f"  to reach it:   jmp shell --client-config /*.yaml --lease {lease.name}",
            f"  to release it: jmp delete leases --client-config /*.yaml {lease.name}",
            "*the device of a failed test is held*",
        ]
    )
    result.stdout.no_fnmatch_line("*PUT AWAY*")
    result.stdout.no_fnmatch_line("*RELEASED*")


def test_the_lines_work(suite: pytest.Pytester, held: ActiveLeases, jmp: Path, peer_environ: dict[str, str]) -> None:
    """The real jmp takes both lines as they are printed: one reaches the board, the other frees it."""
    suite.makepyfile(FAIL)
    reach, release = lines_of(suite.runpytest("--jmp-hold-on-failure=10m").stdout.str())

    def run(line: str, *more: str) -> None:
        command = [str(jmp), *shlex.split(line)[1:], *more]
        done = subprocess.run(command, env=peer_environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(reach, "--", "j", "power", "on")
    assert len(held()) == 1
    run(release)
    until(lambda: held() == [], timeout=10)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_narrower_scope(suite: pytest.Pytester, held: ActiveLeases, scope: str) -> None:
    """A fixture that is torn down with its test leaves its board all the same."""
    suite.makepyfile(FAIL)
    result = suite.runpytest("--jmp-hold-on-failure=10m", f"--jmp-scope={scope}")
    result.assert_outcomes(passed=1, failed=1)
    assert [lease.exporter for lease in held()] == ["board-1"]
    assert (held()[0].duration or 0) >= 600


def test_failure_in_setup(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """A fixture over the device that fails is a failure of the product too."""
    suite.makepyfile(
        """
        import pytest
        @pytest.fixture
        def booted(dut): assert dut.power.on() is ...
        def test_it(booted): pass
        """
    )
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--jmp-scope=function")
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    assert len(held()) == 1


def test_other_devices_go_back(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """Only what the failed test used is held."""
    suite.makeconftest(GATEWAY)
    suite.makepyfile("def test_a(gateway): gateway.power.on()\ndef test_b(dut): assert 0")
    suite.runpytest("--jmp-hold-on-failure=10m").assert_outcomes(passed=1, failed=1)
    assert [lease.exporter for lease in held()] == ["board-1"]


def test_all_devices_of_the_test(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """A test of two devices leaves both."""
    suite.makeconftest(GATEWAY)
    suite.makepyfile("def test_it(gateway, dut): assert 0")
    result = suite.runpytest("--jmp-hold-on-failure=10m")
    assert sorted(str(lease.exporter) for lease in held()) == ["board-1", "board-2"]
    assert result.stdout.str().count("to reach it:") == 2


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("from pytest_jumpstarter.errors import LeaseLost\ndef test_it(dut): raise LeaseLost('gone')", 8),
        ("def test_it(dut): dut.console('nonsense')", 1),
        ("def test_it(jumpstarter): assert 0", 1),
        ("def test_it(dut): pass\ndef test_without(): assert 0", 1),
        ("import pytest\n@pytest.mark.xfail\ndef test_it(dut): assert 0", 0),
    ],
    ids=["device error", "configuration error", "no device", "a test without device", "expected failure"],
)
def test_nothing_to_hold(suite: pytest.Pytester, active_leases: ActiveLeases, source: str, code: int) -> None:
    """What is no test failure on a device holds nothing, and the run goes on."""
    suite.makepyfile(source + "\ndef test_last(): pass")
    result = suite.runpytest("--jmp-hold-on-failure=10m")
    assert result.ret == code
    result.stdout.fnmatch_lines(["*1 passed*" if "test_without" not in source else "*2 passed*"])
    assert active_leases() == []


def test_signal_beats_it(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A test that fails because a signal came gives its board back."""
    suite.makepyfile(
        """
        def test_it(dut, console):
            print("HOLDING", flush=True)
            try:
                console.expect("never", timeout=60)
            finally:
                assert 0
        """
    )
    with running(suite, "--jmp-hold-on-failure=10m") as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 143, output
    assert active_leases() == []


def test_max_hold_is_never_passed(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """--jmp-max-hold caps the lease, and the run says so."""
    suite.makepyfile(FAIL)
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--jmp-max-hold=5m")
    assert held()[0].duration == 300
    result.stdout.fnmatch_lines(["*is leased until * (0?:??; --jmp-max-hold allows no more)"])


def test_rerun_is_no_failure(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A failure that pytest-rerunfailures runs again is none yet; the board it had goes back."""
    suite.makepyfile(
        """
        runs = []
        def test_it(dut):
            runs.append(dut.lease.name)
            assert len(runs) == 2
        def test_later(dut): pass
        """
    )
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--jmp-scope=function", "--reruns=1")
    result.assert_outcomes(passed=2)
    assert active_leases() == []


def test_last_rerun_is_one(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """A failure that stays one after all reruns holds the device."""
    suite.makepyfile(FAIL)
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--jmp-scope=function", "--reruns=1")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    assert len(held()) == 1


def test_last_rerun_of_the_last_test_is_one(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """The device is held, too, if all fixtures are torn down before pytest-rerunfailures says that it has failed."""
    suite.makepyfile("def test_it(dut): assert dut.power.on() is ...")
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--reruns=1")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    assert held()[0].name in lines_of(result.stdout.str())[0]


def test_under_xdist(suite: pytest.Pytester, held: ActiveLeases) -> None:
    """The process that prints says how to reach the board that another one had."""
    suite.makepyfile(FAIL)
    result = suite.runpytest("--jmp-hold-on-failure=10m", "-n1")
    assert result.ret == 1
    assert held()[0].name in lines_of(result.stdout.str())[0]


def test_existing_lease_is_left_as_it_is(suite: pytest.Pytester, held: ActiveLeases, client: Client) -> None:
    """A lease that is not the run's is not extended, and the run says so."""
    client.create_lease(lease_id="existing-for-hold", exporter_name="board-1", duration=300)
    suite.makepyfile("def test_it(dut): assert 0")
    result = suite.runpytest("--jmp-hold-on-failure=10m", "--jmp-lease=existing-for-hold")
    result.stdout.fnmatch_lines(["*board-1 is leased until *; not extended, since it is not a lease of this run)"])
    assert [(lease.name, lease.duration) for lease in held()] == [("existing-for-hold", 300)]


@pytest.fixture
def own_lab(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a suite that starts a lab of its own."""
    pytester.path.joinpath("lab.yaml").write_text(exporter_document("board-1", "kind: dut"))
    pytester.makepyfile("def test_it(dut): assert 0")
    return pytester


def test_lab_stays_in_the_foreground(own_lab: pytest.Pytester) -> None:
    """The embedded lab goes on after the summary, its board in reach, until Ctrl-C; the failure still counts."""
    args = ("--jmp-lab=lab.yaml", "--jmp-selector=kind=dut", "--jmp-hold-on-failure=10m")
    with running(own_lab, *args) as process:
        output = wait_for(process.stdout, "the embedded lab goes on for the lease that is held")
        assert "1 failed in" in output
        config = shlex.split(lines_of(output)[0])[3]
        with Client.from_config(Path(config)) as client:
            assert [lease.is_ready for lease in client.list_leases()] == [True]
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
        assert process.returncode == 1, output
        assert "Traceback" not in output


def test_lab_ends_with_the_lease(own_lab: pytest.Pytester) -> None:
    """Once the lease is over, the lab and the run are."""
    with running(
        own_lab, "--jmp-lab=lab.yaml", "--jmp-selector=kind=dut", "--jmp-hold-on-failure=2s", "--jmp-ttl=5s"
    ) as run:
        output = run.communicate(timeout=60)[0]
        assert run.returncode == 1, output


def test_no_foreground_under_xdist(own_lab: pytest.Pytester) -> None:
    """With a lab of the run's own, processes that do not stay cannot hold anything: an error at the start."""
    result = own_lab.runpytest("--jmp-lab=lab.yaml", "--jmp-hold-on-failure=10m", "-n1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--jmp-hold-on-failure: with --jmp-lab it needs a run without xdist*"])


def test_no_hold_in_a_shell(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a jmp shell the lease is the shell's: an error at the start."""
    monkeypatch.setenv("JUMPSTARTER_HOST", "127.0.0.1:1")
    result = pytester.runpytest("--jmp-hold-on-failure=10m")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--jmp-hold-on-failure: inside a jmp shell*"])
