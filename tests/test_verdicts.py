"""Every cause of a failure, in every phase of a test: the word, the JUnit element and the exit code."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

DEVICE_ERROR, TEST_FAILURE, CONFIGURATION_ERROR = "device error", "test failure", "configuration error"

# What a suite does, and whose fault that is.
CAUSES = {
    "lease not to be had": ("raise errors.LeaseTimeout('x')", DEVICE_ERROR),
    "lease lost": ("raise errors.LeaseLost('x')", DEVICE_ERROR),
    "exporter offline": ("raise errors.ExporterOffline('x')", DEVICE_ERROR),
    "hook failed": ("raise errors.HookFailed('x')", DEVICE_ERROR),
    "exporter out of reach": ("raise errors.DeviceUnreachable('x')", DEVICE_ERROR),
    "several, one the lab's": ("raise ExceptionGroup('x', [ValueError(), errors.LeaseLost('x')])", DEVICE_ERROR),
    "stream error, lease gone": ("lose(dut, jumpstarter); raise pexpect.EOF('x')", DEVICE_ERROR),
    "driver error, lease gone": ("lose(dut, jumpstarter); call_until_it_fails(dut)", DEVICE_ERROR),
    "call that never left": ("never_sent(socket_of_a_tunnel())", DEVICE_ERROR),
    "product out of reach": ("never_sent('ipv4:192.0.2.1:443')", TEST_FAILURE),
    "assertion": ("assert dut is None", TEST_FAILURE),
    "assertion over a lab's error": ("raise AssertionError('x') from errors.LeaseLost('x')", TEST_FAILURE),
    "assertion, lease gone": ("swallow(dut, jumpstarter); assert dut is None", DEVICE_ERROR),
    "console silent": ("dut.console().expect('never', timeout=0.1)", TEST_FAILURE),
    "driver refuses": ("dut.power.call('no_such_method')", TEST_FAILURE),
    "any other error": ("raise RuntimeError('exporter offline')", TEST_FAILURE),
    "no such console": ("dut.console('nowhere')", CONFIGURATION_ERROR),
}

PRELUDE = """
import grpc, grpc.aio, os, pexpect, pytest
from pytest_jumpstarter import errors
from pytest_jumpstarter.device.socket_end import new_folder

def lose(dut, jumpstarter):
    jumpstarter.client.delete_lease(dut.lease.name)
    while not jumpstarter.client.get_lease(dut.lease.name).is_ended:
        pass

def never_sent(address):
    nothing, details = grpc.aio.Metadata(), f"failed to connect to all addresses; last error: UNKNOWN: {address}: no"
    raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)

def socket_of_a_tunnel():
    folder = new_folder()
    os.rmdir(folder)
    return f"unix:{folder}/device"

def swallow(dut, jumpstarter):
    lose(dut, jumpstarter)
    with pytest.raises(Exception):
        call_until_it_fails(dut)

def call_until_it_fails(dut):
    while True:
        dut.power.on()

"""
PHASES = {
    "setup": """
@pytest.fixture
def broken(dut, jumpstarter):
    {cause}
def test_it(broken): pass
""",
    "call": """
def test_it(dut, jumpstarter):
    {cause}
""",
    "teardown": """
@pytest.fixture
def broken(dut, jumpstarter):
    yield
    {cause}
def test_it(broken): pass
""",
}


def suite_source(cause: str, phase: str) -> str:
    """Return a suite whose one test fails by `cause` in `phase`."""
    return PRELUDE + PHASES[phase].format(cause=CAUSES[cause][0])


def words(result: pytest.RunResult) -> set[str]:
    """Return the outcomes of a run."""
    return {
        name for name in ("failed", "error", "device error") if f" 1 {name}" in f" {result.outlines[-1].strip('= ')}"
    }


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("cause", CAUSES)
def test_verdict(suite: pytest.Pytester, cause: str, phase: str) -> None:
    """Each cause has one verdict, in each phase."""
    verdict = CAUSES[cause][1]
    suite.makepyfile(suite_source(cause, phase))
    result = suite.runpytest("--junitxml=report.xml", "-p", "no:randomly")
    element = next(iter(ET.parse(suite.path / "report.xml").getroot()))
    errors, failures = list(element.iter("error")), list(element.iter("failure"))
    if verdict == DEVICE_ERROR:
        assert words(result) == {"device error"}, result.outlines[-1]
        assert result.ret == 8
        assert [(error.tag, error.get("type")) for error in errors + failures] == [("error", "device error")]
    else:
        assert words(result) == ({"failed"} if phase == "call" else {"error"}), result.outlines[-1]
        assert result.ret == 1
        assert [error.get("type") for error in errors + failures] == [None]
        assert len(failures) == (phase == "call")


@pytest.mark.parametrize("args", [("-n2",), ("--reruns=1", "-p", "xdist")], ids=["xdist", "rerunfailures"])
@pytest.mark.parametrize("phase", PHASES)
def test_verdicts_beside_other_plugins(suite: pytest.Pytester, phase: str, args: tuple[str, ...]) -> None:
    """Under xdist, and beside pytest-rerunfailures, the verdicts are the same."""
    for number, cause in enumerate(CAUSES):
        if "lease gone" not in cause:  # these would take the device from the others
            suite.makepyfile(**{f"test_{number}": suite_source(cause, phase)})
    result = suite.runpytest_subprocess("--jmp-scope=function", *args)
    expected = [verdict for cause, (_, verdict) in CAUSES.items() if "lease gone" not in cause]
    name = "failed" if phase == "call" else "error"
    others = len(expected) - expected.count(DEVICE_ERROR)
    last = result.outlines[-1]
    assert f"{expected.count(DEVICE_ERROR)} device error" in last, last
    assert f"{others} {name}" in last, last
    assert result.ret == 1
