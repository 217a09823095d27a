"""Driver clients that are not allowed or not installed, and consoles that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pytest_jumpstarter.lab import Lab

from .runs import HEAD, leave_no_process, one_error, one_failure

CLASSES = {
    "power": "jumpstarter_driver_power.client.PowerClient",
    "root": "jumpstarter_driver_composite.client.CompositeClient",
}


def test_root_class_is_not_allowed(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """A board whose root class is not allowed cannot be used at all, and setup says so."""
    file = config(drivers={"allow": [], "unsafe": False})
    said = one_error(suite, f"--jmp-client={file}")
    assert said == (
        f"the board's root driver needs {CLASSES['root']}, which drivers.allow of client config {file} does not allow; "
        "add it there (now: nothing), or UNSAFE to allow every class"
    )


def test_driver_class_is_not_allowed(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """A driver whose class is not allowed says so when it is used, with the test's own line and none of ours."""
    file = config(drivers={"allow": ["jumpstarter_driver_composite.*"], "unsafe": False})
    suite.makepyfile("def test_it(dut): dut.power.on()")
    said, line = one_failure(suite, f"--jmp-client={file}")
    assert line == "def test_it(dut): dut.power.on()"
    assert said == (
        f"DriverNotAllowed: driver 'power' needs {CLASSES['power']}, "
        f"which drivers.allow of client config {file} does not allow; "
        "add it there (now: jumpstarter_driver_composite.*), or UNSAFE to allow every class"
    )


def test_driver_class_is_not_allowed_by_the_environment(
    suite: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the environment is the client config, the variable to mend is named."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")
    suite.makepyfile("def test_it(dut): dut.power.on()")
    fields = yaml.safe_load(lab.client_config.read_text())
    for name, value in {
        "JMP_ENDPOINT": fields["endpoint"],
        "JMP_TOKEN": fields["token"],
        "JMP_NAMESPACE": "lab",
        "JMP_NAME": "default",
        "JMP_TLS": f'{{"ca": "{fields["tls"]["ca"]}"}}',
        "JMP_DRIVERS_ALLOW": "jumpstarter_driver_composite.*",
    }.items():
        monkeypatch.setenv(name, value)
    said, _ = one_failure(suite)
    assert ", which JMP_DRIVERS_ALLOW in the environment does not allow; add it there (now: jumpst" in said


def test_driver_package_is_missing(suite: pytest.Pytester, lab_file: Callable[[str], Path]) -> None:
    """A driver whose client is not installed names the package to install, when it is used and not before."""
    file = lab_file(
        f"{HEAD}export:\n  spare: {{type: bad_drivers.Nowhere}}\n"
        "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
    )
    suite.makepyfile("def test_it(dut):\n    dut.power.on()\n    dut.spare.on()\n")
    result = suite.runpytest(f"--jmp-lab={file}", "--log-level=INFO")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "    dut.spare.on()",
            "E   *DriverMissing: driver 'spare' needs jumpstarter_driver_nowhere.client.NowhereClient, "
            "which is not installed; pip install jumpstarter-driver-nowhere",
        ]
    )
    result.stdout.no_fnmatch_line("*WARNING*")
    leave_no_process("badly-1")


def test_no_console(suite: pytest.Pytester) -> None:
    """A console that is not there says what is."""
    suite.makepyfile("def test_it(console): pass")
    result = suite.runpytest("--jmp-selector=board=mock")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["_* ERROR at setup of test_it _*", "dut (mock-1) has no console; it has power"])


def test_no_such_console(suite: pytest.Pytester) -> None:
    """A path that names no driver offers one that is like it."""
    suite.makepyfile("def test_it(dut): dut.console('pwer')")
    said, _ = one_failure(suite, "--jmp-selector=board=mock")
    assert said == (
        "ConsoleNotFound: dut (mock-1) has no driver 'pwer' to use as a console; it has power (did you mean 'power'?)"
    )


def test_a_driver_that_is_no_console(suite: pytest.Pytester) -> None:
    """Expecting something of a driver without a stream fails at once, and says why."""
    suite.makepyfile("def test_it(dut): dut.console('power').expect('login:')")
    result = suite.runpytest("--jmp-selector=board=mock")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*EOF: console power of dut (mock-1) closed while waiting for 'login:' (method connect not found on driver)*"]
    )


def test_ambiguous_console(suite: pytest.Pytester, lab_file: Callable[[str], Path]) -> None:
    """Two serial ports are one too many to choose from; the error names both."""
    port = "{type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://', check_present: false}}"
    file = lab_file(f"{HEAD}export:\n  left: {port}\n  right: {port}\n")
    suite.makepyfile("def test_it(console): pass")
    result = suite.runpytest(f"--jmp-lab={file}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["dut (badly-1) has 2 consoles (left, right); choose one: dut.console('PATH'), or *"])
