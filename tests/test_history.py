"""The files of the history: written by several processes at once, and never the reason why a run fails."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from runs import occupied, running, wait_for
from test_report import SCHEMA

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import HistoryError
from pytest_jumpstarter.history import store
from pytest_jumpstarter.history.__main__ import main
from pytest_jumpstarter.history.file import HistoryFile
from pytest_jumpstarter.history.results import LeaseFacts, Result, RunResults
from pytest_jumpstarter.history.schema import VERSION
from pytest_jumpstarter.history.store import History


def run_of(number: int, *, tests: int = 1, reason: str = "", exporter: str = "board-1", labels: str = "") -> RunResults:
    """Return a run with some results."""
    outcome = "failed" if reason else "passed"
    results = [
        Result(f"test_it.py::test_{test}", "dut", exporter, labels, outcome, reason, "", 0.1, 1.5, 0.2)
        for test in range(tests)
    ]
    facts = {"commit": f"c{number}", "ci": "", "build": "", "job": "", "url": ""}
    leases = [LeaseFacts(exporter, labels, 1.0, 2.0, False)]
    return RunResults(uuid=f"run-{number}", start=number, stop=number + 1, **facts, results=results, leases=leases)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A run comes back as it was written; to write it again changes nothing."""
    file = HistoryFile(tmp_path / "history.db")
    run = run_of(1, tests=3, reason="assert 1 == 2")
    assert file.write([run]) == 1
    assert file.write([run]) == 0
    assert list(file.full_runs()) == [run]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_history import run_of
from pytest_jumpstarter.history.file import HistoryFile
print("ready", flush=True)
sys.stdin.readline()
for number in range(6):
    HistoryFile(Path(sys.argv[1])).write([run_of(1000 * int(sys.argv[2]) + number, tests=50)])
"""


def writer(path: Path, number: int, code: str = WRITER) -> subprocess.Popen[str]:
    """Start a process that writes 6 runs as soon as it is told to."""
    command = [sys.executable, "-c", code, str(path), str(number), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_writers(tmp_path: Path) -> None:
    """Two processes that write to one new file at once lose nothing."""
    path = tmp_path / "history.db"
    writers = [writer(path, number) for number in (1, 2)]
    for each in writers:
        wait_for(each.stdout, "ready")
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.wait(60) for each in writers] == [0, 0]
    for each in writers:
        each.communicate()
    assert len(HistoryFile(path).runs()) == 12
    assert [each.name for each in tmp_path.iterdir()] == ["history.db"]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_history import run_of
from pytest_jumpstarter.history.file import HistoryFile

def runs():
    yield run_of(1000, tests=20000)
    print("ready", flush=True)
    sys.stdin.readline()

HistoryFile(Path(sys.argv[1])).write(runs())
"""


def test_writer_is_killed(tmp_path: Path) -> None:
    """A writer that is killed in the middle leaves nothing of its run, and the file to others."""
    path = tmp_path / "history.db"
    HistoryFile(path).write([run_of(1)])
    killed = writer(path, 1, KILLED)
    wait_for(killed.stdout, "ready")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    HistoryFile(path).write([run_of(2)])
    assert [run.uuid for run in HistoryFile(path).runs()] == ["run-1", "run-2"]


KILLED_IN_A_FOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_history import run_of
from pytest_jumpstarter.history import file
from pytest_jumpstarter.history.store import History

real = file.oldest

def oldest(*args):
    print("ready", flush=True)
    sys.stdin.readline()
    return real(*args)

file.oldest = oldest  # it is called in the middle of the write
History(Path(sys.argv[1])).write(run_of(int(sys.argv[2]), tests=20000))
"""


def test_writer_of_a_folder_is_killed(tmp_path: Path) -> None:
    """What it left counts for nothing, and the next run an hour later removes it; that of a live writer stays."""
    killed, alive = (writer(tmp_path, number, KILLED_IN_A_FOLDER) for number in (1, 2))
    for each in (killed, alive):
        wait_for(each.stdout, "ready")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    parts = {path.name for path in tmp_path.iterdir()}
    assert len([name for name in parts if name.endswith(".part")]) == 2
    assert History(tmp_path).runs() == []
    other = tmp_path / "download.part"
    other.touch()
    an_hour_ago = time.time() - store._STALE - 1
    for path in [other, *(path for path in tmp_path.iterdir() if "run-1" in path.name)]:
        os.utime(path, (an_hour_ago, an_hour_ago))
    History(tmp_path).write(run_of(3))
    assert not [path.name for path in tmp_path.iterdir() if "run-1" in path.name]
    assert other.exists()
    alive.communicate("go\n", timeout=60)
    assert alive.returncode == 0
    assert [run.uuid for run in History(tmp_path).runs()] == ["run-2", "run-3"]


def test_seconds_are_an_average(tmp_path: Path) -> None:
    """How long a test took is the average of all files of a folder; a run that is in two files counts once."""

    def took(number: int, *seconds: float) -> RunResults:
        results = [
            Result("test_it.py::test_0", "dut", "board-1", "", "passed", "", "", 0.0, call, 0.0) for call in seconds
        ]
        return dataclasses.replace(run_of(number), results=results)

    for number, seconds in ((1, [1.0]), (2, [2.0, 6.0])):
        History(tmp_path).write(took(number, *seconds))
    assert History(tmp_path).seconds() == {"test_it.py::test_0": 3.0}
    History(tmp_path / "copy.jmphistory").write(took(2, 2.0, 6.0))
    assert History(tmp_path).seconds() == {"test_it.py::test_0": 3.0}


def test_size_is_bounded(tmp_path: Path) -> None:
    """A file that is too large loses its oldest runs, and the names that only these had; the newest run stays."""
    file = HistoryFile(tmp_path / "history.db")
    for number in range(60):
        file.write([run_of(number, tests=100, exporter=f"board-{number}")], max_bytes=100_000)
    kept = [run.uuid for run in file.runs()]
    assert kept[-1] == "run-59"
    assert kept[0] != "run-0"
    assert len(file.labels()) == len(kept)
    assert file.path.stat().st_size < 400_000


def test_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder the oldest files go; files of others stay."""
    monkeypatch.setattr(store, "MAX_BYTES", 200_000)
    other = tmp_path / "kept.txt"
    other.write_text("x" * 300_000)
    for number in range(8):
        History(tmp_path).write(run_of(number, tests=10))
    kept = [run.uuid for run in History(tmp_path).runs()]
    assert kept[-1] == "run-7"
    assert "run-0" not in kept
    assert other.exists()


def test_folder_is_read_as_one(tmp_path: Path) -> None:
    """The files of a folder are one history; a run that is in two files counts once."""
    folder = tmp_path / "new" / "history"
    for number in (1, 2):
        History(folder).write(run_of(number))
    History(folder / "copy.jmphistory").write(run_of(1))
    history = History(folder)
    assert [run.uuid for run in history.runs()] == ["run-1", "run-2"]
    assert [run.uuid for run in history.full_runs()] == ["run-1", "run-2"]
    assert len(history.past()["test_it.py::test_0", "dut"]) == 2


def test_bad_file_of_a_folder(tmp_path: Path) -> None:
    """A file of a folder that cannot be read is named, and the others are read."""
    History(tmp_path).write(run_of(1))
    (tmp_path / "bad.jmphistory").write_text("nothing of ours, and long enough for a header of a database" * 20)
    history = History(tmp_path)
    assert len(history.runs()) == 1
    assert history.problems == [f"{tmp_path / 'bad.jmphistory'}: it is not a history file"]


def other_program(path: Path) -> str:
    """Make a database of another program."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE run (id)")
    connection.close()
    return "another program"


def newer_version(path: Path) -> str:
    """Make a history of a version that is not known yet."""
    HistoryFile(path).write([run_of(1)])
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    return f"version {VERSION + 1}"


def test_file_that_another_process_has_just_made(tmp_path: Path) -> None:
    """A database without tables is one that another process is about to fill, or that a killed one left."""
    path = tmp_path / "history.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert path.stat().st_size
    with pytest.raises(HistoryError, match="it is empty"):
        HistoryFile(path).runs()
    HistoryFile(path).write([run_of(1)])
    assert len(HistoryFile(path).runs()) == 1


def text(path: Path) -> str:
    """Make a text file."""
    path.write_text("# a diary\n" * 200)
    return "not a history file"


@pytest.mark.parametrize("make", [other_program, newer_version, text])
def test_file_is_refused(tmp_path: Path, make: Any) -> None:
    """A file of another program or of a newer version is refused by name, and stays as it is to the byte."""
    path = tmp_path / "history.db"
    words = make(path)
    before = path.read_bytes()
    for act in (lambda: HistoryFile(path).write([run_of(2)]), lambda: HistoryFile(path).runs()):
        with pytest.raises(HistoryError, match=words) as caught:
            act()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["history.db"]


def test_names_that_change_with_each_lease(tmp_path: Path) -> None:
    """Exporters of an ExporterSet are one board, which has no health; boards with names of their own are not."""
    generated = ("x7k2b", "4mnpq", "zzb2c", "9wxkf", "tt5hd")
    names = [f"pool-{end}" for end in generated] + [f"rack-1000{number}" for number in range(6)]
    history = History(tmp_path / "history.db")
    for number, name in enumerate(names):
        history.write(run_of(number, exporter=name, labels="kind=dut"))
    boards = {past.board for past in history.past()["test_it.py::test_0", "dut"]}
    assert boards == {"pool-*", *names[5:]}
    assert {lease.exporter for lease in history.leases()} == set(names[5:])


# Runs of pytest


FAILS = "def test_fails(dut):\n    assert 1 == 2, 'no such number'\ndef test_passes(dut): pass\n"


def test_run_is_kept(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with two workers writes its results once: test, board, commit, outcome, reason, durations, lease."""
    monkeypatch.setenv("BUILDKITE", "true")
    monkeypatch.setenv("BUILDKITE_COMMIT", "c0ffee")
    suite.makepyfile(FAILS + "def test_without(): pass\n")
    result = suite.runpytest_subprocess(
        "-n1", "--jmp-history=history.db", "--jmp-report=run.json", "--jmp-report=run.md"
    )
    result.assert_outcomes(passed=2, failed=1)
    [run] = HistoryFile(suite.path / "history.db").full_runs()
    assert run.commit == "c0ffee"
    failed, passed = sorted(run.results)
    assert (failed.outcome, failed.exporter, failed.role) == ("failed", "board-1", "dut")
    assert "no such number" in failed.reason
    assert "kind=dut" in failed.labels
    assert (passed.outcome, passed.reason) == ("passed", "")
    assert passed.call is not None
    [lease] = run.leases
    assert (lease.exporter, lease.has_error) == ("board-1", False)
    assert lease.ready is not None
    data = json.loads((suite.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert data["history"]["boards"][0]["exporter"] == "board-1"


def planted(path: Path, *names: str) -> None:
    """Write runs in which tests failed only on board-1."""
    for number in range(40):
        is_bad = number % 4 == 0
        facts = {"commit": f"c{number}", "ci": "", "build": "", "job": "", "url": ""}
        board, outcome = ("board-1", "failed") if is_bad else (f"board-{2 + number % 3}", "passed")
        results = [Result(name, "dut", board, "kind=dut", outcome, "", "", 0.1, 1.0, 0.1) for name in names]
        HistoryFile(path).write(
            [RunResults(uuid=f"run-{number}", start=number, stop=number + 1, **facts, results=results, leases=[])]
        )


def test_verdict_is_shown(suite: pytest.Pytester) -> None:
    """A failure that follows its board says so in one line of 80 columns at most, and in every report."""
    name = f"test_a_long_name_{'x' * 60}"
    suite.makepyfile(test_it=f"def {name}(dut): assert False")
    planted(suite.path / "history.db", f"test_it.py::{name}")
    result = suite.runpytest(*[f"--jmp-report=run.{end}" for end in ("json", "md", "html")], "--jmp-history=history.db")
    assert result.ret == 1
    words = "follows the board board-1: failed 11 of 11 there, 0 of 30 on 3 siblings"
    [line] = [line for line in result.outlines if "follows" in line]
    assert line.endswith(words[:60]) or words[:60] in line
    assert len(line) <= 80
    data = json.loads((suite.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    [verdict] = data["history"]["verdicts"]
    assert (verdict["kind"], verdict["board"], verdict["has_failed"], verdict["words"]) == (
        "board",
        "board-1",
        True,
        words,
    )
    for report in ("run.md", "run.html"):
        assert words in (suite.path / report).read_text()


def test_three_lines_at_most(suite: pytest.Pytester) -> None:
    """The terminal shows three verdicts at most; the reports have all."""
    suite.makepyfile(test_it="".join(f"def test_{number}(dut): assert False\n" for number in range(5)))
    planted(suite.path / "history.db", *(f"test_it.py::test_{number}" for number in range(5)))
    result = suite.runpytest("--jmp-history=history.db", "--jmp-report=run.json")
    assert len([line for line in result.outlines if "follows the board board-1: failed 11 of 11" in line]) == 3
    assert len(json.loads((suite.path / "run.json").read_text())["history"]["verdicts"]) == 5


def test_warning_fits_the_terminal(suite: pytest.Pytester) -> None:
    """The warning about a history that cannot be used is wrapped at 80 columns, and names one file of many."""
    suite.makepyfile("def test_it(dut): pass")
    (suite.path / "lab").mkdir()
    for number in range(9):
        newer_version(suite.path / "lab" / f"{number}.jmphistory")
    result = suite.runpytest("--jmp-history=lab")
    assert result.ret == 0
    start = next(at for at, line in enumerate(result.outlines) if line.startswith("jumpstarter history:"))
    words = [line for line in result.outlines[start:] if line.startswith(("jumpstarter history:", "  "))]
    assert " ".join(line.strip() for line in words).endswith("update pytest-jumpstarter (and 8 more)")
    assert str(suite.path / "lab" / "0.jmphistory") in "".join(words)
    assert [line for line in words if len(line) > 80 and " " in line.strip()] == []


def test_passed_test_has_no_line(suite: pytest.Pytester) -> None:
    """The terminal shows verdicts of failures only."""
    suite.makepyfile(test_it="def test_it(dut): pass")
    planted(suite.path / "history.db", "test_it.py::test_it")
    result = suite.runpytest("--jmp-history=history.db")
    result.stdout.no_fnmatch_line("*follows*")


NO_PLACE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as of a full disk, every file ends here
import pytest
sys.exit(pytest.main(["-p", "no:cacheprovider", "-rN", *sys.argv[1:]]))
"""


def unusable(kind: str, folder: Path) -> Path:
    """Return the path of a history that cannot be used."""
    path = folder / "history.db"
    if kind == "newer":
        newer_version(path)
    elif kind == "damaged":
        HistoryFile(path).write([run_of(1)])
        connection = sqlite3.connect(path)
        connection.executescript("UPDATE lease SET has_error = 'x'; UPDATE test SET name = x'ff'")
        connection.close()
    elif kind == "below a file":
        (folder / "file").touch()
    places = {
        "nowhere": Path("/proc/no/history.db"),
        "long": folder / (300 * "n"),
        "long file": folder / f"{300 * 'n'}.db",
        "below a file": folder / "file" / "history",
    }
    return places.get(kind, path)


USES = [[], ["--jmp-avoid-unhealthy"], ["--jmp-order=longest", "-n1"]]


@pytest.mark.parametrize("use", USES, ids=["written", "unhealthy", "longest"])
@pytest.mark.parametrize("kind", ["full", "nowhere", "newer", "long", "long file", "below a file", "damaged"])
def test_history_that_fails_changes_nothing(suite: pytest.Pytester, kind: str, use: list[str]) -> None:
    """What keeps the history from being used is a warning at the end; verdicts and exit code stay."""
    suite.makepyfile(FAILS)
    path = unusable(kind, suite.path)
    if kind == "full":
        result = suite.run(sys.executable, "-c", NO_PLACE, f"--jmp-history={path}", *use)
    else:
        result = suite.runpytest_subprocess(f"--jmp-history={path}", *use)
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    assert len([line for line in result.outlines if line.startswith("jumpstarter history:")]) == 1
    assert kind == "damaged" or str(path) in result.stdout.str().partition("jumpstarter history:")[2]


def test_a_closed_folder(suite: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nor does a path below a folder that this user may not enter."""
    suite.makepyfile(FAILS)
    closed = tmp_path_factory.mktemp("closed")
    (closed / "history").mkdir()
    closed.chmod(0)
    like_others = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]
    wrapper = like_others if os.geteuid() == 0 else []
    try:
        with running(suite, f"--jmp-history={closed / 'history'}", "--jmp-avoid-unhealthy", wrapper=wrapper) as process:
            output = process.communicate(timeout=60)[0]
    finally:
        closed.chmod(0o700)
    assert process.returncode == 1, output
    assert re.search(r"^jumpstarter history:[^=]*closed0/history:[^=]*Permission\s+denied", output, re.MULTILINE)


def test_read_only_file(suite: pytest.Pytester) -> None:
    """A file that must not be written is a warning at the end, and the verdicts are shown from it."""
    suite.makepyfile(FAILS)
    path = suite.path / "history.db"
    HistoryFile(path).write([run_of(1)])
    path.chmod(0o444)
    like_others = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]  # root may write to any file
    with running(suite, f"--jmp-history={path}", wrapper=like_others if os.geteuid() == 0 else []) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert re.search(r"^jumpstarter history:[^=]*history\.db:[^=]*readonly", output, re.MULTILINE)


def test_no_secret_and_no_control_code(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test says in its name, its failure and its environment is in the file without secrets and escape codes."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "open-sesame-1234")
    monkeypatch.setenv("BUILDKITE", "true")
    monkeypatch.setenv("BUILDKITE_LABEL", "\x1b[31mjob of open-sesame-1234")
    suite.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("word", ["open-sesame-1234"])
        def test_it(dut, word):
            raise AssertionError(f"\\x1b]0;title\\x07\\x9b31m {word} \\x1b[2J Bearer abcdefgh12345678")
        """
    )
    assert suite.runpytest_subprocess("--jmp-history=history.db").ret == 1
    connection = sqlite3.connect(suite.path / "history.db")
    texts = "\n".join(connection.iterdump())
    connection.close()
    assert "test_it" in texts
    assert "job of ***" in texts
    assert [each for each in ("open-sesame", "abcdefgh12345678", "\x1b", "\x9b", "\x07") if each in texts] == []


def test_without_the_option(suite: pytest.Pytester) -> None:
    """A run without the option does not import SQLite."""
    suite.makeconftest(
        """
        import sys
        def pytest_unconfigure(config):
            is_loaded = "sqlite3" in sys.modules and "coverage" not in sys.modules  # which loads it itself
            print(is_loaded, [name for name in sys.modules if "jumpstarter.history" in name])
        """
    )
    suite.makepyfile(FAILS)
    suite.runpytest_subprocess("--jmp-report=run.json").stdout.fnmatch_lines(["False []"])


RESULTS = 1_000_000 if "PYTEST_LARGE" in os.environ else 50_000
"""How many results a large history has."""

IS_LARGE = RESULTS > 50_000

A_SECOND = 2.0  # the bound is twice what is promised


@pytest.mark.parametrize("place", ["file", "folder"])
def test_many_results(tmp_path: Path, place: str) -> None:
    """
    A large history is read in less than a second for each question, and a run is written in less than one.

    With PYTEST_LARGE, for which a machine must have nothing else to do; else only the time of the processor counts.
    """
    runs, file = 500, HistoryFile(tmp_path / "history.db")
    tests = RESULTS // runs
    all_runs = (run_of(number, tests=tests, exporter=f"board-{number % 20}") for number in range(runs))
    history = History(file.path if place == "file" else tmp_path)
    if place == "file":
        file.write(all_runs)
    else:
        for run in all_runs:
            history.write(run)
    ids = [f"test_it.py::test_{test}" for test in range(tests)]
    questions: dict[str, Callable[[], object]] = {
        "write": lambda: history.write(run_of(1000, tests=tests)),
        "past": lambda: history.past(ids),
        "seconds": history.seconds,
        "leases": history.leases,
    }
    took = {}
    for name, ask in questions.items():
        start, used = time.monotonic(), time.process_time()
        assert ask() or name == "write"
        passed, worked = time.monotonic() - start, time.process_time() - used
        took[name] = passed if IS_LARGE else worked
        print(f"{place} {name}: {passed:.2f}s, {worked:.2f}s of CPU")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    print(f"{RESULTS + tests:,} results, {size:,} bytes")
    assert len(history.runs()) == runs + 1
    assert max(took.values()) < A_SECOND, took


TWO_BOARDS = "from pytest_jumpstarter import device_fixture\nboard = device_fixture(selector='board=virtual')\n"


def unhealthy(path: Path, *names: str) -> None:
    """Write leases of which every third had a device error."""
    leases = [LeaseFacts(name, "", 1.0, 2.0, number % 3 == 0) for number in range(30) for name in names]
    HistoryFile(path).write([dataclasses.replace(run_of(1), leases=leases)])


@pytest.mark.parametrize("name", ["board-1", "board-2"])
def test_unhealthy_board_is_taken_last(suite: pytest.Pytester, name: str) -> None:
    """Of two free boards the one with many device errors is not leased, and the run says so."""
    suite.makeconftest(TWO_BOARDS)
    suite.makepyfile(f"def test_it(board): assert board.exporter.name != {name!r}")
    unhealthy(suite.path / "history.db", name)
    result = suite.runpytest("--jmp-history=history.db", "--jmp-avoid-unhealthy")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"jumpstarter: unhealthy exporters * {name} (10 of 30 leases had a device error)"])


def test_unhealthy_board_is_not_forbidden(suite: pytest.Pytester) -> None:
    """An unhealthy board is leased if it is named, or if there is no other; without the option it is not avoided."""
    suite.makepyfile("def test_it(dut): assert dut.exporter.name == 'board-1'")
    unhealthy(suite.path / "history.db", "board-1", "board-2")
    for name in ("--jmp-selector=kind=dut", "--jmp-exporter=board-1"):
        suite.runpytest("--jmp-history=history.db", "--jmp-avoid-unhealthy", name).assert_outcomes(passed=1)
    suite.runpytest("--jmp-history=history.db").stdout.no_fnmatch_line("*leased last*")


def test_avoid_needs_a_history(suite: pytest.Pytester) -> None:
    """To avoid unhealthy boards without a history is a usage error that says what is missing."""
    result = suite.runpytest("--jmp-avoid-unhealthy")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--jmp-avoid-unhealthy: on needs --jmp-history, which is not set"])


def test_longest_first(suite: pytest.Pytester) -> None:
    """With xdist, the module that took longest runs first, whole and in its order, after tests without devices."""
    suite.makepyfile(
        test_1="def test_a(dut): pass\ndef test_b(dut): pass",
        test_2="def test_c(dut): pass\ndef test_d(dut): pass",
        test_3="def test_e(): pass",
    )
    seconds = {"test_1.py::test_a": 1.0, "test_2.py::test_c": 1.0, "test_2.py::test_d": 9.0}
    results = [Result(test, "dut", "board-1", "", "passed", "", "", 0.0, took, 0.0) for test, took in seconds.items()]
    HistoryFile(suite.path / "history.db").write([dataclasses.replace(run_of(1), results=results)])
    result = suite.runpytest_subprocess("-n1", "-v", "--jmp-history=history.db", "--jmp-order=longest")
    result.assert_outcomes(passed=5)
    ended = [line.split()[-1] for line in result.outlines if "PASSED" in line]
    assert [name[-1] for name in ended] == list("ecdab")


def test_time_of_earlier_runs(suite: pytest.Pytester) -> None:
    """The header says how long the collected tests took before; nothing at the first run."""
    suite.makepyfile(test_it="def test_0(dut): pass\ndef test_new(dut): pass")
    suite.runpytest("--jmp-history=history.db", "--collect-only").stdout.no_fnmatch_line("*earlier runs*")
    HistoryFile(suite.path / "history.db").write([run_of(1)])
    suite.runpytest("--jmp-history=history.db").stdout.fnmatch_lines(
        ["jumpstarter: 1 of 2 tests took 1.8s in earlier runs, without waiting for boards"]
    )


def test_time_of_earlier_runs_with_workers(suite: pytest.Pytester) -> None:
    """With xdist, it is shown once before the first test, and what it is for several workers."""
    suite.makepyfile(test_it="".join(f"def test_{number}(dut): pass\n" for number in range(4)))
    HistoryFile(suite.path / "history.db").write([run_of(1, tests=4)])
    result = suite.runpytest_subprocess("-n2", "-v", "--jmp-history=history.db")
    result.assert_outcomes(passed=4)
    lines = [
        "jumpstarter: these tests took 7.2s in earlier runs, without waiting for boards;",
        "  at least 3.6s with 2 workers",
    ]
    assert [line for line in result.outlines if line in lines] == lines
    assert result.outlines.index(lines[1]) < min(at for at, each in enumerate(result.outlines) if "::test_" in each)


def test_waiting_line_has_the_time_of_tests(suite: pytest.Pytester, client: Client) -> None:
    """The line of a wait says how long the tests that wait took before: not those that ran, or use no board."""
    suite.makepyfile(
        test_it="def test_0(): pass\ndef test_1(dut): pass\ndef test_2(dut): pass\ndef test_new(dut): pass"
    )
    HistoryFile(suite.path / "history.db").write([run_of(1, tests=3)])
    with occupied(client):
        result = suite.runpytest("--jmp-history=history.db", "--jmp-wait=2s")
    result.stdout.fnmatch_lines(["jumpstarter: waiting * for kind=dut: *; its tests took 3.6s before"])


# The command line


def told(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Return exit code, output and errors of `python -m pytest_jumpstarter.history`."""
    code = main([str(each) for each in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_show_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line lists runs, shows verdicts and boards, and exports results as CSV and JSON."""
    path = tmp_path / "history.db"
    planted(path, "test_it.py::test_it")
    HistoryFile(path).write([run_of(100, reason="=1+1", exporter="board-9")])
    code, out, _ = told(capsys, "list", path)
    assert (code, len(out.splitlines())) == (0, 41)
    assert "c100  1 failed" in out.splitlines()[-1]
    words = "test_it.py::test_it follows the board board-1: failed 10 of 10 there, 0 of 28 on 3 siblings"
    assert words in told(capsys, "show", path)[1]
    assert told(capsys, "show", "--board=board-2", path)[1].startswith("no verdict")
    assert "board-9: healthy, 0 of 1 leases" in told(capsys, "show", "--board=board-9", path)[1]
    rows = list(csv.DictReader(io.StringIO(told(capsys, "export", path)[1])))
    assert (len(rows), rows[0]["exporter"], rows[-1]["reason"]) == (41, "board-1", "'=1+1")
    lines = told(capsys, "export", "--format=json", path)[1].splitlines()
    assert json.loads(lines[-1])["run_commit"] == "c100"


def test_merge_and_prune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files and folders are merged into one file, each run once; the oldest runs are pruned from both."""
    folder, path = tmp_path / "jobs", tmp_path / "all.db"
    for number in range(4):
        History(folder).write(run_of(number))
    assert told(capsys, "merge", f"--into={path}", folder) == (0, f"4 runs added to {path}\n", "")
    assert told(capsys, "merge", f"--into={path}", folder)[1] == f"0 runs added to {path}\n"
    for each in (folder, path):
        assert told(capsys, "prune", "--keep=1", each)[0] == 0
        assert [run.uuid for run in History(each).runs()] == ["run-3"]
    assert told(capsys, "prune", "--keep=0", folder)[0] == 0
    assert History(folder).runs() == []


def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is missing or of another program is one line on standard error, and exit code 2."""
    code, out, err = told(capsys, "list", tmp_path / "none.db")
    assert (code, out, err) == (2, "", f"history: {tmp_path / 'none.db'}: there is no such file\n")
    code, out, err = told(capsys, "list", tmp_path / (300 * "n"))
    assert (code, out, err) == (2, "", f"history: {tmp_path / (300 * 'n')}: File name too long\n")
    other_program(tmp_path / "other.db")
    for command in (["list"], ["prune"], ["merge", f"--into={tmp_path / 'other.db'}"]):
        source = tmp_path / "other.db" if command != ["merge"] else tmp_path
        assert told(capsys, *command, source)[0] == 2
    assert not (tmp_path / "none.db").exists()
