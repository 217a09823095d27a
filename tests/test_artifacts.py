"""`--jmp-artifacts`: a folder of evidence for each test that fails, and what a fatal word on the console does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import running, wait_for

from pytest_jumpstarter.evidence.artifacts import new_folder, slug

CONFTEST = """
    import threading
    import pytest
    from pytest_jumpstarter import device_fixture
    from pytest_jumpstarter.evidence import artifacts

    artifacts.TIMEOUT = 2.0
    gateway = device_fixture(selector="kind=gateway")

    @pytest.fixture(scope="module")
    def booted(dut):
        dut.power.on()
        console = dut.console()
        console.expect("login: ")
        console.sendline(" ".join(["Kernel", "panic - not syncing: VFS"]))
        console.expect("never to be seen", timeout=60)

    def pytest_jumpstarter_collect_evidence(folder, device, item):
        folder.add("../own notes.txt", f"{item.name} on {device.exporter.name}, {device.power.read and 'alive'}")
        if item.name == "test_late":
            folder.add("too big", bytes(65 << 20))
        if item.name.startswith("test_name"):
            threading.Event().wait(60)
"""


def folders(suite: pytest.Pytester) -> dict[str, dict[str, str]]:
    """Return the content of each file in each folder."""
    return {
        folder.name: {file.name: file.read_text() for file in folder.iterdir()}
        for folder in suite.path.joinpath("out").iterdir()
    }


def test_what_is_kept(suite: pytest.Pytester) -> None:
    """A panic ends a wait at once, as a test failure; each test that fails has a folder, which the reports link."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        test_it="""
        import pytest
        def test_passes(dut): dut.power.on()
        def test_setup(booted): pass
        @pytest.mark.parametrize("long", ["a/b c" * 60])
        def test_name(dut, long):
            dut.power.off()
            pytest.fail("to see it")
        def test_both(dut, gateway):
            gateway.power.on()
            gateway.console().expect("login: ")
            pytest.fail("to see it")
        def test_late(dut, request):
            request.addfinalizer(lambda: dut.power.off())
            dut.power.on()
            pytest.fail("to see it")
        def test_teardown(dut, request):
            request.addfinalizer(lambda: pytest.fail("to see it"))
        """
    )
    options = ("--jmp-artifacts=out", "--jmp-report=run.json", "--jmp-report=run.html")
    result = suite.runpytest_subprocess(*options)
    result.assert_outcomes(passed=2, failed=3, errors=2)
    result.stdout.fnmatch_lines(
        ["E * console of dut (board-1): 'never to be seen' was waited for, and the board said '*Kernel panic - not*'*"]
    )
    result.stdout.fnmatch_lines([f"jumpstarter artifacts of 5 tests: {suite.path}/out"])
    kept = folders(suite)
    setup = kept["test_it.py-test_setup"]
    assert "Kernel panic - not syncing: VFS" in setup["console.log"]
    facts = json.loads(setup["test.json"])
    [device] = facts["devices"]
    assert (facts["phase"], device["exporter"], device["lease"][:3]) == ("setup", "board-1", "pj-")
    assert json.loads(setup["power.json"]) == {"power": {"voltage": 5.0, "current": 0.4}}
    assert setup["own_notes.txt"] == "test_setup on board-1, alive"
    [long] = (name for name in kept if name.startswith("test_it.py-test_name"))
    assert len(long) < 120
    said = [json.loads(line) for line in kept[long]["exporter.jsonl"].splitlines()]
    assert [(each["role"], each["message"]) for each in said] == [("dut", "power off")]
    both = kept["test_it.py-test_both"]
    assert "login: " in both["console-gateway.log"]
    assert {"own_notes.txt", "own_notes-gateway.txt", "power.json", "power-gateway.json"} <= both.keys()
    late = kept["test_it.py-test_late"]
    assert json.loads(late["power.json"])["power"]["voltage"] == 5.0, "collected after the teardown"
    assert "there is room for" in late["notes.txt"]
    assert "power off" in late["exporter.jsonl"], "what came in teardown is not there"
    assert kept.keys() >= {"test_it.py-test_teardown"}
    assert kept[long]["notes.txt"] == "not all evidence could be collected within 2s\n"
    assert "test_it.py-test_passes" not in kept
    tests = {test["id"].partition("::")[2]: test for test in json.loads((suite.path / "run.json").read_text())["tests"]}
    assert tests["test_setup"]["artifacts"]["files"] == sorted(setup)
    assert '"out/test_it.py-test_setup/console.log"' in suite.path.joinpath("run.html").read_text()


def test_policy_and_attempts(suite: pytest.Pytester) -> None:
    """`--jmp-console` says whose console is kept; a test that runs again has a folder for each attempt."""
    suite.makepyfile(
        """
        import pytest
        tried = []
        def test_passes(dut, console):
            dut.power.cycle(wait=0)
            console.expect("login: ")
        def test_again(dut):
            tried.append(1)
            assert len(tried) == 3
        """
    )
    suite.mkdir("sub")
    options = ("--reruns=2", "-n1", "--jmp-artifacts=../out", "--jmp-console=on", "--rootdir=..", "..")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("sub")
        suite.runpytest_subprocess(*options).assert_outcomes(passed=2)
    kept = {re.sub(r"^test\w+\.py-", "", name): files for name, files in folders(suite).items()}
    assert kept.keys() == {"test_passes", "test_again", "test_again-attempt-2", "test_again-attempt-3"}
    assert "login: " in kept["test_passes"]["console.log"]
    suite.runpytest_subprocess("-k", "passes", "--jmp-artifacts=off", "--jmp-console=off").assert_outcomes(passed=1)
    assert list(suite.path.joinpath("off").iterdir()) == []


def test_two_boards_at_once(suite: pytest.Pytester) -> None:
    """Tests that fail at once on two boards under xdist each have the console and the log of their own board."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        board = device_fixture(selector="board=virtual")
        """
    )
    fails = """
        import time
        import pytest
        @pytest.mark.parametrize("number", range(3))
        def test_fails(board, number):
            console = board.console()
            board.power.cycle(wait=0)
            console.expect("login: ")
            console.sendline(f"{board.exporter.name} in {__name__} {number}")
            console.expect(f"in {__name__} {number}")
            pytest.fail("to see it")
        """
    suite.makepyfile(test_one=fails, test_two=fails)
    options = ("-n2", "--dist=loadfile", "--jmp-artifacts=out", "--jmp-report=run.json", "--junitxml=report.xml")
    suite.runpytest_subprocess(*options, "-p", "no:rerunfailures").assert_outcomes(failed=6)
    kept = folders(suite)
    boards = set()
    for test in json.loads((suite.path / "run.json").read_text())["tests"]:
        [device] = test["devices"]
        boards.add(device["exporter"])
        module, number = test["id"][:8], test["id"][-2]
        [console] = [text for title, text in test["sections"].items() if title.startswith("console of")]
        files = kept[test["artifacts"]["folder"]]
        assert json.loads(files["test.json"])["devices"][0]["lease"] == device["lease"]
        for text in (console, files["console.log"]):
            said = re.findall(r"login: (\S+) in (\w+) (\d)", text)
            assert said == [(device["exporter"], module, number)], test["id"]
        assert {json.loads(line)["exporter"] for line in files["exporter.jsonl"].splitlines()} == {device["exporter"]}
        assert f"console of board ({device['exporter']})" in test["sections"]
    assert boards == {"board-1", "board-2"}


def test_interrupted_test_keeps_its_evidence(suite: pytest.Pytester) -> None:
    """A test that Ctrl-C ends has its folder, although it has no report."""
    suite.makepyfile(
        """
        def test_it(dut, console):
            dut.power.on()
            console.expect("login: ")
            print("BOOTED", flush=True)
            console.expect("never", timeout=60)
        """
    )
    with running(suite, "--jmp-artifacts=out") as process:
        wait_for(process.stdout, "BOOTED")
        process.send_signal(2)
        process.communicate(timeout=30)
    assert process.returncode == 130
    [files] = folders(suite).values()
    assert "Boot ROM" in files["console.log"]
    assert json.loads(files["test.json"])["outcome"] == "interrupted"


def test_folder_that_cannot_be_written(suite: pytest.Pytester) -> None:
    """A folder that cannot be made ends the run before it begins; one that is lost later costs no verdict."""
    suite.path.joinpath("file").touch()
    suite.makepyfile(
        """
        import pathlib, shutil
        def test_it(dut):
            shutil.rmtree("out")
            pathlib.Path("out").touch()
            assert dut is None, "the product's fault"
        """
    )
    assert suite.runpytest("--jmp-artifacts=file/out").ret == pytest.ExitCode.USAGE_ERROR
    result = suite.runpytest("--jmp-artifacts=out", "--junitxml=report.xml")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*the product's fault", r"-+ artifacts -+", r"not written: .*out'"])


def test_console_fatal_is_set(suite: pytest.Pytester) -> None:
    """`jmp_console_fatal` replaces what ends a wait, a test may as well, and it counts only where it comes first."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import ConsoleFatal
        def test_it(dut, console):
            dut.power.on()
            console.expect("login: ")
            console.sendline("Kernel panic - not syncing")
            console.expect_exact("not syncing", timeout=10)  # is not fatal any more
            console.sendline("smoke 1 fire 2")
            console.expect_exact("smoke 1", timeout=10)
            with pytest.raises(ConsoleFatal, match="said 'fire 2'"):
                console.expect_exact(["never", "2"], timeout=60)
            assert (console.before, console.after) == (" ", "fire")
            console.fatal = ()
            console.sendline("fire 3")
            assert console.expect_exact(["never", "3"], timeout=10) == 1
        """
    )
    suite.runpytest_subprocess("--jmp-console-fatal=fire", "--jmp-console-fatal=water").assert_outcomes(passed=1)
    assert suite.runpytest("--jmp-console-fatal=(").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("tests/test_a.py::TestX::test_y[a-1]", "tests_test_a.py-TestX-test_y[a-1]"),
        ("a.py::test_y[/etc/../passwd]", "a.py-test_y[_etc_.._passwd]"),
        ("../a.py::test_y", "a.py-test_y"),
        ("a.py::test_y[\x00ü:*]", "a.py-test_y[_]-"),
        (f"a.py::test_y[{'x' * 300}]", f"a.py-test_y[{'x' * 88}-"),
    ],
)
def test_names_of_folders(tmp_path: Path, test: str, name: str) -> None:
    """A test's id becomes a name that is safe and short; the second one of a name is another folder."""
    found: Any = slug(test)
    assert re.fullmatch(re.escape(name) + ("[0-9a-f]{8}" if name.endswith("-") else ""), found)
    assert new_folder(tmp_path, test, 1) != new_folder(tmp_path, test, 1)
    assert slug(test + "\x01") != slug(test + "\x02")


def test_hooks_overwrite_nothing(suite: pytest.Pytester) -> None:
    """A file of a hook that has the name of another file, of ours or of a hook, gets a name of its own."""
    suite.makeconftest(
        """
        NAMES = ["test.json", "console.log", "CONSOLE.LOG", "notes.txt", "exporter.jsonl", "a.txt", "a.txt", "A.TXT"]
        NAMES += ["a-2.txt", "../a.txt", "x" * 300, "", "power.json"]
        def pytest_jumpstarter_collect_evidence(folder):
            for number, name in enumerate(NAMES):
                folder.add(name, f"hook {number}")
            raise RuntimeError("a note")
        """
    )
    suite.makepyfile(
        """
        def test_it(dut, console):
            dut.power.on()
            console.expect("login: ")
            assert dut is None
        """
    )
    suite.runpytest_subprocess("--jmp-artifacts=out").assert_outcomes(failed=1)
    [files] = folders(suite).values()
    of_hook = [int(text.removeprefix("hook ")) for text in files.values() if text.startswith("hook ")]
    assert sorted(of_hook) == list(range(13))
    assert json.loads(files["test.json"])["outcome"] == "failed"
    assert "Boot ROM" in files["console.log"]
    assert "RuntimeError: a note" in files["notes.txt"]
    assert "power on" in files["exporter.jsonl"]
    assert any("voltage" in text for text in files.values())
