"""`--jmp-check` and `--collect-only`: what tests ask for, and whether they can get it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version

import pytest
from runs import occupied
from standalone import RunningExporter, serving

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.collection import check_machine
from pytest_jumpstarter.lab import Lab

SUITE = """
    import pytest
    from pytest_jumpstarter import device_fixture

    gateway = device_fixture(selector="kind=gateway")

    def test_none(): raise SystemExit("a test ran")
    def test_one(dut): raise SystemExit("a test ran")
    def test_two(dut, gateway): raise SystemExit("a test ran")
"""


def test_all_is_well(suite: pytest.Pytester, client: Client, active_leases: Callable[[], list[Lease]]) -> None:
    """The check leases nothing, runs nothing, tells access and every role; boards of others can be waited for."""
    suite.makepyfile(SUITE)
    with occupied(client) as other:
        result = suite.runpytest("--jmp-check", "-n2", "--jmp-report=run.json")
        assert [lease.name for lease in active_leases()] == [other.name]
    assert not (suite.path / "run.json").exists()
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes()
    result.stdout.fnmatch_lines(
        [
            "python    3.*, *python*",
            "versions  pytest-jumpstarter *, jumpstarter *, pytest *",
            "drivers   installed: *",
            "jmp       *",
            "client    default in namespace lab, from client config*",
            "lab       127.0.0.1:*, without a proxy",
            "TLS       trusts tls.ca",
            "token     valid until * (36? days)",
            "clock     20??-??-?? ??:?? *",
            "policies  cannot be seen: the lab may refuse this client a board that it lists",
            "answer    7 exporters; two calls took * ms",
            "",
            "role     requests      match  online  free  leased by",
            "dut      kind=dut          1       1     0  default",
            "gateway  kind=gateway      1       1     1",
            "",
            "tests that need devices: 2; all can get theirs",
        ]
    )


def test_machine(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, lab: Lab) -> None:
    """A package of a wrong version, a port that is not there and a mock are told, in this order, with what to do."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    suite.path.joinpath("own-lab.yaml").write_text(
        "metadata: {name: own-1, labels: {kind: dut}}\nexport:\n"
        "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
        "  serial: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: /dev/ttyBOARD}}\n"
    )
    suite.makepyfile("def test_one(dut): pass")
    found = {"jumpstarter": "0.10.1"}
    monkeypatch.setattr(check_machine, "version", lambda name: found.get(name) or version(name))
    monkeypatch.setattr(check_machine, "requires", lambda _: ["jumpstarter<0.10,>=0.8", "nonesuch>=2; extra == 'lab'"])
    result = suite.runpytest("--jmp-check")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    words = re.sub(r"\s+", " ", result.stdout.str())
    assert (
        "packages ✗ jumpstarter 0.10.1 is installed, but jumpstarter<0.10,>=0.8 is needed; pip install 'jump" in words
    )
    assert "packages ✗ nonesuch is not installed; pip install 'nonesuch>=2' drivers " in words
    assert ": power of own-1 is a mock (jumpstarter_driver_power.driver.MockPower) port " in words
    assert "port ✗ own-1: /dev/ttyBOARD does not exist; serial ports of this machine: " in words
    assert "exporter own-1 does not start: driver 'serial' " in words.partition(" error ✗ ")[2]


def test_bad_facts_end_in_exit_code_1(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all tests could get their devices, a ✗ is still a reason not to start; a clock that is behind is one."""
    suite.makepyfile("def test_one(dut): pass")
    monkeypatch.setattr(check_machine, "_CLOCK_TOLERANCE", timedelta(days=-3))
    result = suite.runpytest("--jmp-check")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["clock     ✗ * behind the one that issued the*", "*; all can get theirs; but see what is marked ✗"]
    )


def test_what_hooks_change(suite: pytest.Pytester) -> None:
    """What a hook makes of a request is what is checked, once for each wish; no other hook hears of it."""
    suite.makepyfile(SUITE)
    suite.makeconftest(
        """
        def pytest_jumpstarter_lease_request(request, role):
            if role == "dut":
                request.selector = "kind=dutt"

        def pytest_jumpstarter_lease_acquired():
            raise SystemExit("something was leased")
        """
    )
    result = suite.runpytest("--jmp-check")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    words = re.sub(r"\s+", " ", result.stdout.str())
    changed = "jmp_selector in tox.ini, changed by a pytest_jumpstarter_lease_request hook"
    assert f"dut: no exporter matches kind=dutt ({changed}); did you mean kind=dut (1)? " in words
    result.stdout.fnmatch_lines(["  *::test_one", "  *::test_two", "tests that need devices: 2; 2 cannot get theirs"])


def test_nothing_to_check(pytester: pytest.Pytester, lab: Lab) -> None:
    """Without tests that need devices there is nothing that the lab could lack; no tests at all is pytest's word."""
    pytester.makepyfile("def test_none(): pass")
    result = pytester.runpytest("--jmp-check", f"--jmp-client={lab.client_config}")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["no test needs a device"])
    assert pytester.runpytest("--jmp-check", "-k", "zzz").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_each_is_asked_once(suite: pytest.Pytester) -> None:
    """The tests of `--jmp-each` are checked one by one, in the run that found their exporters."""
    suite.makepyfile("def test_it(dut): raise SystemExit('a test ran')")
    result = suite.runpytest("--jmp-check", "--jmp-each=board=virtual")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.re_match_lines([r"dut +exporter board-1, board=virtual +1 +1 +1", r"dut +exporter board-2, .*"])
    result.stdout.fnmatch_lines(["tests that need devices: 2; all can get theirs"])


def test_one_exporter_without_a_lab(
    pytester: pytest.Pytester,
    running_exporter: RunningExporter,
    tmp_path_factory: pytest.TempPathFactory,
    dead: str,
) -> None:
    """An exporter without a lab is connected to; what it has is shown, or why it cannot be used."""
    pytester.makepyfile(test_a=SUITE)
    with serving(running_exporter, tmp_path_factory.mktemp("alone"), "--tls-grpc-insecure") as address:
        args = [f"--jmp-direct=grpc://{address}", "--jmp-selector=board=rpi4", "-k", "test_one"]
        result = pytester.runpytest("--jmp-check", *args)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(
            [
                "mode      one exporter, without a lab",
                f"dut       dut ({address}): power",
                "          'dut' asks for board=rpi4 (--jmp-selector), but the environment*",
                "*: 1; all can get theirs",
            ]
        )
        result = pytester.runpytest("--jmp-check", f"--jmp-direct=grpc://{address}")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(
            ["gateway: 127*is a single device and 'dut' uses it, so*", "  *::test_two", "*2; 1 *"]
        )
    result = pytester.runpytest("--jmp-check", f"--jmp-direct={dead}", "-k", "test_one")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"dut: the exporter at {dead} (--jmp-direct) does not answer: *"])


def test_collect_only(suite: pytest.Pytester) -> None:
    """`--collect-only` names the roles of each test and what they ask for; with `-q` only ids are shown."""
    suite.makepyfile(SUITE)
    result = suite.runpytest("--collect-only", "--jmp-check")
    result.stdout.fnmatch_lines(
        ["*jumpstarter: devices*", "*::test_one: dut (kind=dut)", "*::test_two: dut (kind=dut), gateway (kind=gateway)"]
    )
    result.stdout.no_fnmatch_line("*test_none: *")
    assert "kind=dut" not in suite.runpytest("--collect-only", "-q").stdout.str().partition("test_one")[2]
