"""Board states in runs of several kinds: plans, debuggers, losses, reruns, workers, boards that are left to people."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import running, wait_for
from states_suite import CONFTEST, HEAD

from pytest_jumpstarter.client.v1 import Lease

ActiveLeases = Callable[[], list[Lease]]
AS_WRITTEN = ("--jmp-order=off", "-p", "no:randomly")


@pytest.fixture
def states(suite: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with the states of `states_suite`."""
    suite.makeconftest(CONFTEST)
    return suite


def notes(suite: pytest.Pytester) -> list[str]:
    """Return what the suite noted, and forget it."""
    file = Path(suite.path, "notes")
    found = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def transitions(suite: pytest.Pytester) -> list[str]:
    """Return the transitions that the suite noted, and forget them."""
    return [note for note in notes(suite) if " -> " in note]


ANEW = ["dut: None -> off", "dut: off -> login", "dut: login -> shell"]


def test_a_plan_moves_no_board(states: pytest.Pytester) -> None:
    """`--collect-only` and `--setup-plan` run no transition; the plan has the state as a fixture over the device."""
    states.makepyfile("def test_it(shell): pass")
    assert states.runpytest("--collect-only").ret == 0
    result = states.runpytest("--setup-plan")
    result.stdout.fnmatch_lines(["SETUP    S dut", "SETUP    S user", "SETUP    S shell (fixtures used: dut, user)"])
    assert transitions(states) == []
    shown = states.runpytest("--fixtures").stdout.str()
    assert re.search(r"^shell \[session scope\] -- conftest\.py:\d+\n    Logged in\.$", shown, re.MULTILINE)


def test_no_power_is_touched_after_the_last_failure(states: pytest.Pytester) -> None:
    """After the last test, and after `-x`, the state ends, but no transition runs."""
    states.makepyfile("def test_1(shell): assert 0\ndef test_2(shell): pass")
    states.runpytest("-x", *AS_WRITTEN).assert_outcomes(failed=1)
    found = notes(states)
    assert [note for note in found if " -> " in note] == ANEW
    assert found[-1] == "dut: shell ends"


def test_last_failed_runs_what_was_not_reached(states: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests whose state was not reached are errors, which `--lf` runs again and `--maxfail` counts."""
    states.makepyfile(
        "def test_1(shell): pass\ndef test_2(shell): pass\ndef test_3(login): pass\ndef test_4(shell): pass"
    )
    monkeypatch.setenv("BROKEN", "shell")
    result = states.runpytest("--maxfail=2", *AS_WRITTEN)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*ERROR*test_1 - StateNotReached*"])
    monkeypatch.delenv("BROKEN")
    states.runpytest("--lf", *AS_WRITTEN).assert_outcomes(passed=2)


def test_one_try_under_the_debugger(states: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--pdb` the debugger shows the first error of a transition, which is not tried again."""
    states.makepyfile("def test_1(login): pass")
    monkeypatch.setenv("BROKEN", "login")
    with running(states, "--pdb", "-p", "no:randomly") as process:
        wait_for(process.stdout, "did not reach 'login' (from off, 1 of 2 tries)")
        output, _ = process.communicate("p f'in {dut.role}'\nc\n", timeout=60)
    assert "'in dut'" in output
    assert transitions(states) == ["dut: None -> off", "dut: off -> login"]


def test_a_board_that_is_there_already(states: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--jmp-state` the first transition finds the board there; if it fails, no power is switched."""
    states.makepyfile(HEAD + "def test_1(shell): shell.run('version')\ndef test_2(off): pass\ndef test_3(shell): pass")
    booted = """
def pytest_jumpstarter_device_ready(device):
    assert device.state.current == "shell"
    device.power.on()
    device.console().expect("login: ")
    device.console().sendline("root")
    device.console().expect_exact("board:~# ")
"""
    states.makeconftest(CONFTEST + booted)
    states.runpytest("--jmp-state=shell", *AS_WRITTEN).assert_outcomes(passed=3)
    assert transitions(states) == [
        "dut: shell -> shell",
        "dut: shell -> off",
        "dut: off -> login",
        "dut: login -> shell",
    ]
    states.makeconftest(CONFTEST)
    monkeypatch.setenv("BROKEN", "shell")
    states.runpytest("--jmp-state=dut:shell", "-k", "test_1", *AS_WRITTEN).assert_outcomes(errors=1)
    assert transitions(states) == ["dut: shell -> shell"]
    result = states.runpytest("--jmp-state=shel")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--jmp-state: 'dut' has no board state 'shel'; it has off, login, shell"])


def test_a_state_of_no_device(states: pytest.Pytester) -> None:
    """A transition whose first argument is no device fixture is a usage error with its place."""
    states.makepyfile("def test_it(dut): pass")
    states.makeconftest(CONFTEST + "\n@board_state\ndef lost(user): pass\n")
    result = states.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*board_state 'lost' (*conftest.py:*): its device 'user' is no device fixture; *"])


def test_a_board_left_to_people_keeps_its_state(states: pytest.Pytester, held: ActiveLeases) -> None:
    """With `--jmp-hold-on-failure` what follows the `yield` of the state does not run; other teardowns do."""
    states.makepyfile("def test_1(shell, led): assert 0\ndef test_2(off): pass")
    states.runpytest("--jmp-hold-on-failure=10m", *AS_WRITTEN).assert_outcomes(failed=1)
    assert len(held()) == 1
    found = notes(states)
    assert "led off" in found
    assert "dut: shell ends" not in found


LOST = """
@board_state(after=off, tries=3)
def up(dut, jumpstarter):
    note(f"{dut.exporter.name} -> up")
    dut.power.on()
    if NOTES.read_text().count("-> up") == 1:
        jumpstarter.client.delete_lease(dut.lease.name)
        dut.console().expect("never said", timeout=60)
    dut.power.on()
"""


def test_a_board_lost_on_the_way(states: pytest.Pytester) -> None:
    """A lease lost in a transition is a device error: no other try there, and a new start on another board."""
    states.makeconftest(CONFTEST.replace('dut = device_fixture(selector="kind=dut")', "") + LOST)
    states.makepyfile("def test_1(up): pass\ndef test_2(up): pass")
    result = states.runpytest("--jmp-selector=board=virtual", "--jmp-retries=1", *AS_WRITTEN)
    result.stdout.fnmatch_lines(["*retried: test_1 on board-? (*) -> board-?*"])
    result.assert_outcomes(passed=2)
    first, second, *rest = [note for note in notes(states) if "-> up" in note]
    assert first != second
    assert rest == []
    result = states.runpytest("--jmp-selector=board=virtual", *AS_WRITTEN)
    assert result.ret == 8
    result.stdout.fnmatch_lines(["*DEVICE ERROR*test_1*"])


def test_reruns_of_others_begin_anew(states: pytest.Pytester) -> None:
    """An attempt of pytest-rerunfailures is spoiled by the one before."""
    pytest.importorskip("pytest_rerunfailures")
    states.makepyfile("tries = []\ndef test_1(shell):\n    tries.append(1)\n    assert len(tries) > 1")
    states.runpytest("--reruns=1", *AS_WRITTEN).stdout.fnmatch_lines(["*1 passed, 1 rerun*"])
    assert transitions(states) == ANEW * 2


def test_two_workers_on_two_boards(states: pytest.Pytester) -> None:
    """Each worker knows its own board; its transitions are told by the process that prints, with its name."""
    pytest.importorskip("xdist")
    states.makepyfile(
        test_a="def test_1(shell): pass\ndef test_2(login): pass\ndef test_3(shell): assert 0\ndef test_4(shell): pass",
        test_b="def test_1(shell): pass\ndef test_2(off): pass\ndef test_3(shell): pass\ndef test_4(dut): pass",
    )
    states.makeconftest(CONFTEST.replace('dut = device_fixture(selector="kind=dut")', ""))
    result = states.runpytest("-n2", "--dist=loadfile", "--jmp-selector=board=virtual", "-p", "no:randomly")
    result.assert_outcomes(passed=7, failed=1)
    lines = [line for line in result.outlines if " -> " in line]
    assert {match[1] for line in lines if (match := re.match(r"jumpstarter: (gw\d): dut \(board-\d\): ", line))} == {
        *("gw0", "gw1")
    }
    assert not [line for line in lines if not line.startswith("jumpstarter: gw")]
