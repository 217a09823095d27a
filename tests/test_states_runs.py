"""Board states in runs of several kinds: plans, debuggers, losses, reruns, workers, boards that are left to people."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import HEEDING_SIGNALS, running, wait_for
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


ENDS = """
import signal, time
@board_state(after=off, tries=3)
def ends(dut):
    note("ends")
    match os.environ["ENDS"]:
        case "skip":
            pytest.skip("no kernel for this board")
        case "exit":
            pytest.exit("that is enough", 7)
        case "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
"""


@pytest.mark.parametrize(("how", "code", "asked"), [("skip", 0, 2), ("exit", 7, 1), ("ctrl-c", 130, 1)])
def test_what_is_no_failure_of_a_transition(
    states: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str, code: int, asked: int
) -> None:
    """A skip, `pytest.exit` and Ctrl-C in a transition pass as they are: it is not tried again, and not given up."""
    states.makeconftest(CONFTEST + ENDS)
    states.makepyfile("def test_1(ends): pass\ndef test_2(ends): pass\ndef test_3(off): pass")
    monkeypatch.setenv("ENDS", how)
    result = states.run(*HEEDING_SIGNALS, sys.executable, "-m", "pytest", "-rs", *AS_WRITTEN)
    assert result.ret == code
    assert notes(states).count("ends") == asked
    assert "did not reach" not in result.stdout.str()
    assert "StateNotReached" not in result.stdout.str()
    if how == "skip":
        result.assert_outcomes(skipped=2, passed=1)
        result.stdout.fnmatch_lines(["SKIPPED*no kernel for this board"])


WALL = """
@board_state(after=off)
def wall(dut):
    note("wall")
    raise RuntimeError("no such wall")
"""


def test_a_flash_gives_another_chance(states: pytest.Pytester) -> None:
    """A state that could not be reached is tried again after a flash: another image may get there."""
    states.makeconftest(CONFTEST + WALL)
    Path(states.path, "image").write_text("1.0.0\n")
    states.makepyfile(
        "def test_1(wall): pass\ndef test_2(wall): pass\n"
        "def test_3(dut): assert dut.flash('image', force=True)\ndef test_4(wall): pass"
    )
    states.runpytest(*AS_WRITTEN).assert_outcomes(errors=3, passed=1)
    found = [note for note in notes(states) if note == "wall" or note.startswith("[")]
    assert found == ["[test_1]", "wall", "[test_2]", "[test_3]", "[test_4]", "wall"]


def test_a_new_lease_gives_another_chance(states: pytest.Pytester) -> None:
    """What one lease could not reach, the next one may, on the same board, too."""
    states.makeconftest(CONFTEST + WALL)
    states.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("dut", ["kind=dut", "kind=dut,board=virtual"], indirect=True, scope="session")
        class TestWall:
            def test_1(self, wall): pass
            def test_2(self, wall): pass
        """
    )
    result = states.runpytest(*AS_WRITTEN)
    result.assert_outcomes(errors=4)
    assert [note.partition("[kind")[0] for note in notes(states) if note == "wall" or note.startswith("[")] == [
        *("[test_1", "wall", "[test_2") * 2
    ]
    assert len({line for line in result.outlines if line.startswith("dut: exporter board-1, lease ")}) == 2


def test_the_scope_of_the_device_is_that_of_its_states(states: pytest.Pytester) -> None:
    """With `--jmp-scope=module` a state ends with its module, and is reached anew in the next one."""
    states.makepyfile(
        **{f"test_{name}": f"def test_{name}1(shell): pass\ndef test_{name}2(shell): pass" for name in ("a", "b")}
    )
    states.runpytest("--jmp-scope=module", *AS_WRITTEN).assert_outcomes(passed=4)
    found = notes(states)
    assert found.count("dut: login -> shell") == 2
    assert found.index("dut: shell ends") < found.index("[test_b1]") < found.index("dut: shell -> off")
    result = states.runpytest("--jmp-scope=module", "--setup-plan", "-k", "a1")
    result.stdout.fnmatch_lines(["*SETUP    M dut", "*SETUP    M shell*", "*TEARDOWN M shell", "*TEARDOWN M dut"])


def test_the_devices_of_states_are_known_beforehand(states: pytest.Pytester) -> None:
    """`--collect-only` and `--jmp-check` name the device of a test that only requests a state, and move no board."""
    states.makepyfile("def test_it(shell): pass\ndef test_other(gateway_shell): pass")
    states.runpytest("--collect-only").stdout.fnmatch_lines(
        ["*::test_it: dut (kind=dut)*", "*::test_other: gateway (kind=gateway)*"]
    )
    result = states.runpytest("--jmp-check")
    assert result.ret == 0
    result.stdout.re_match_lines([r".*\bdut +kind=dut\b", r".*\bgateway +kind=gateway\b"])
    assert transitions(states) == []


def test_a_suite_without_states_has_no_part_of_them(suite: pytest.Pytester) -> None:
    """Without `board_state` nothing of states is registered or imported, whether tests use a device or not."""
    suite.makeconftest(
        """
        import sys
        def pytest_unconfigure(config):
            found = [name for name in sys.modules if name.startswith("pytest_jumpstarter.states")]
            print("states:", config.pluginmanager.hasplugin("jumpstarter-board-states"), found)
        """
    )
    suite.makepyfile(test_a="def test_it(dut): dut.power.on()", test_b="def test_it(): pass")
    for args in ([], ["test_b.py"]):
        result = suite.runpytest_subprocess(*args)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["states: False []"])


def test_no_frame_of_the_plugin_is_shown(states: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of a transition that failed has the line of the suite, and the board's words, nothing of ours."""
    states.makepyfile(
        "def test_by_signature(login): pass\n"
        "def test_by_name(request): request.getfixturevalue('shell')\n"
        "def test_walks(dut): dut.state.reach('off'); dut.state.forget(); dut.state.reach('login')\n"
    )
    monkeypatch.setenv("BROKEN", "login")
    result = states.runpytest(*AS_WRITTEN)
    result.assert_outcomes(errors=1, failed=2)
    shown = result.stdout.str()
    assert len(re.findall(r'>  +dut\.console\(\)\.expect\("never said", timeout=0\.1\)', shown)) == 2
    found = [line for line in result.outlines if re.search(r"pytest_jumpstarter/\S*:\d+", line)]
    assert found == []


def test_a_driver_with_the_name_of_the_state(suite: pytest.Pytester) -> None:
    """A driver named `state` is in `drivers`; `state` stays where the board is, and its error says so."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    drivers = "".join(f"  {name}: {{type: jumpstarter_driver_power.driver.MockPower}}\n" for name in ("power", "state"))
    suite.path.joinpath("own-lab.yaml").write_text(
        f"metadata: {{name: own-1, labels: {{kind: dut}}}}\nexport:\n{drivers}"
    )
    suite.makeconftest(
        """
        from pytest_jumpstarter import board_state
        @board_state
        def off(dut):
            dut.power.off()
            dut.drivers["state"].off()
        """
    )
    suite.makepyfile(
        r"""
        import pytest
        def test_it(off, dut):
            dut.drivers["state"].on()
            assert dut.state.current == "off"
            with pytest.raises(AttributeError, match=r"'on'; the driver 'state' is dut\.drivers\['state'\]"):
                dut.state.on()
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)
