"""When no device can be had: who is told what, and who waits for it."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from runs import occupied

from pytest_jumpstarter.client.v1 import Client, Lease

ActiveLeases = Callable[[], list[Lease]]

TWO = "def test_a(dut): pass\ndef test_b(dut): pass\ndef test_without(): pass"


def test_busy_is_a_device_error_by_default(suite: pytest.Pytester, client: Client) -> None:
    """Without the option a board that stays busy is a device error."""
    suite.makepyfile(TWO)
    with occupied(client):
        result = suite.runpytest("--jmp-wait=1s")
    result.stdout.fnmatch_lines(["*1 passed, 2 device error in *"])
    assert result.ret == 8


def test_busy_is_skipped(suite: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """With skip, tests for a board that stays busy are skipped with the reason, and the end says it aloud."""
    suite.makepyfile(TWO)
    with occupied(client) as other:
        result = suite.runpytest("--jmp-no-device=skip", "--jmp-wait=1s", "-rs", "--junitxml=report.xml")
        assert [lease.name for lease in active_leases()] == [other.name]
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "2 tests were skipped because no device was available: nothing was tested on kind=dut",
            "SKIPPED ?1? test_busy_is_skipped.py:1: no exporter for kind=dut within 1.0s *1 match, 1 leased*",
        ]
    )
    assert result.ret == 0
    suite_element = ET.parse(suite.path / "report.xml").getroot()[0]
    assert (suite_element.get("skipped"), suite_element.get("errors")) == ("2", "0")


def test_offline_is_skipped(suite: pytest.Pytester) -> None:
    """With skip in the ini file, tests for boards that are all offline are skipped too."""
    suite.makepyfile(TWO)
    result = suite.runpytest("-o", "jmp_no_device=skip", "--jmp-selector=board=absent", "--jmp-wait=1s", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*nothing was tested on board=absent", "SKIPPED *1 match, 0 leased, 1 offline*"])


def test_skipped_under_xdist(suite: pytest.Pytester, client: Client) -> None:
    """The process that prints says it aloud, though others have skipped."""
    suite.makepyfile(TWO)
    with occupied(client):
        result = suite.runpytest("--jmp-no-device=skip", "--jmp-wait=1s", "-n1")
    result.assert_outcomes(passed=1, skipped=2)
    words = "2 tests were skipped because no device was available: nothing was tested on kind=dut"
    result.stdout.fnmatch_lines([words])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--jmp-selector=board=nonsense",), "no exporter can serve board=nonsense*"),
        (("--jmp-lease=nonsense",), "lease nonsense (--jmp-lease) does not exist*"),
    ],
    ids=["nothing matches", "no such lease"],
)
def test_what_no_wait_mends_is_an_error(suite: pytest.Pytester, args: tuple[str, ...], message: str) -> None:
    """A wish that can never come true stays an error, whatever the option says."""
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest("--jmp-no-device=skip", *args)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert result.ret == 1


def test_no_configuration_is_an_error(pytester: pytest.Pytester) -> None:
    """Without any lab there is no device to be had, and that is no reason to skip."""
    pytester.makepyfile("def test_it(dut): pass")
    result = pytester.runpytest("--jmp-no-device=skip", "--jmp-selector=a=b")
    result.assert_outcomes(errors=1)


def test_other_skips_are_not_counted(suite: pytest.Pytester) -> None:
    """A test that skips itself is none for want of a device."""
    suite.makepyfile("import pytest\ndef test_it(dut): pytest.skip('no')")
    result = suite.runpytest("--jmp-no-device=skip")
    result.assert_outcomes(skipped=1)
    result.stdout.no_fnmatch_line("*nothing was tested*")


@pytest.mark.parametrize("scope", ["function", "class", "module"])
def test_nobody_waits_twice(suite: pytest.Pytester, client: Client, scope: str) -> None:
    """In any scope, the second wish for the same device ends at once, and says when it was asked for."""
    tests = "class TestA:\n def test_a(self, dut): pass\nclass TestB:\n def test_b(self, dut): pass"
    suite.makepyfile(test_one=tests, test_two=tests)
    start = time.monotonic()
    with occupied(client):
        result = suite.runpytest("--jmp-wait=3s", f"--jmp-scope={scope}")
    assert time.monotonic() - start < 4 * 3
    asked = re.findall(r"^  device error.*no exporter for .*asked at ([\d:]{8})", result.stdout.str(), re.MULTILINE)
    assert len(asked) == 4
    assert len(set(asked)) == 1


def test_another_device_is_asked_for(suite: pytest.Pytester, client: Client) -> None:
    """What was in vain for one device says nothing about another."""
    suite.makeconftest(
        "from pytest_jumpstarter import device_fixture\ngateway = device_fixture(selector='kind=gateway')"
    )
    suite.makepyfile("def test_a(dut): pass\ndef test_b(gateway): gateway.power.on()")
    with occupied(client):
        suite.runpytest("--jmp-no-device=skip", "--jmp-wait=1s").assert_outcomes(passed=1, skipped=1)


def test_bad_value(pytester: pytest.Pytester) -> None:
    """Another word than the two ends the run before it begins."""
    result = pytester.runpytest("--jmp-no-device=pass")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--jmp-no-device: 'pass' is neither fail nor skip*"])
