"""Every way in which a run can end red, in every output: each tells it, with the exit code and what it means."""

from __future__ import annotations

import html
import json
import os
import signal
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
from conftest import exporter_document
from faulty import FaultyLab
from runs import frozen, running, until
from test_report import SCHEMA, properties

from pytest_jumpstarter.client.v1 import Client

FILES = ("run.json", "run.md", "run.html", "junit.xml")
OPTIONS = [*(f"--jmp-report={name}" for name in FILES[:3]), "--junitxml=junit.xml"]


class Red(NamedTuple):
    """
    A run that ends red.

    Attributes:
        files: The suite.
        code: The exit code.
        meaning: What it means.
        words: What each output tells.
        options: More options.
        signal: A signal that is sent when a test has begun to hold its board.
    """

    files: dict[str, str]
    code: int
    meaning: str
    words: tuple[str, ...]
    options: tuple[str, ...] = ()
    signal: int = 0


PASSES = "def test_passes(dut): dut.power.on()\n"
HOLDS = """
import pathlib, pytest, time
@pytest.fixture
def board(dut):
    yield dut
    dut.power.off()  # which fails, because a signal has given the board back
def test_fails(dut): assert dut is None, "the product is to blame"
def test_holds(board):
    pathlib.Path("HOLDING").touch()
    time.sleep(60)
def test_later(dut): pass
"""
HELD = ("AssertionError: the product is to blame", "test_holds", "test_later")
OTHER_WAYS = """
import asyncio, gc, pytest, sys, threading, warnings
@pytest.fixture
def old(dut):
    yield
    warnings.warn("worn out")
@pytest.fixture(scope="session")
def warm(dut):
    yield
    raise OSError("still warm")
class Lost:
    def __del__(self): raise RuntimeError("lost in __del__")
def fail(): raise RuntimeError("lost in a thread")
def test_warns(old): pass
def test_unraisable(dut):
    Lost()
    gc.collect()
def test_thread(dut):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
def test_two_ends(dut, request):
    def first(): raise OSError("first bad end")
    def second(): raise OSError("second bad end")
    request.addfinalizer(first)
    request.addfinalizer(second)
@pytest.mark.xfail(strict=True, reason="known bug")
def test_known(dut): pass
def test_cancelled(dut): raise asyncio.CancelledError("was cancelled")
def test_leaves(dut): sys.exit("the tool gave up")
def test_warm(warm): pass
"""
LATE = "a plugin or conftest file raised an error as the run ended"
RED = {
    "a test fails": Red(
        {"test_it": PASSES + "def test_fails(dut): assert 1 + 1 == 3"},
        1,
        "a test failed or has an error",
        ("test_fails", "assert (1 + 1) == 3"),
    ),
    "a fixture is missing": Red(
        {"test_it": PASSES + "def test_fails(dut, no_such): pass"},
        1,
        "a test failed or has an error",
        ("test_fails", "fixture 'no_such' not found"),
    ),
    "a teardown fails": Red(
        {"test_it": "def test_fails(dut, request): request.addfinalizer(lambda: 1 / 0)"},
        1,
        "a test failed or has an error",
        ("test_fails", "ZeroDivisionError: division by zero"),
    ),
    "a file cannot be imported": Red(
        {"test_it": PASSES, "test_other": "import no_such_module"},
        2,
        "test files cannot be imported",
        ("test_other.py", "ModuleNotFoundError: No module named 'no_such_module'"),
    ),
    "a file cannot be imported, and the others run": Red(
        {"test_it": PASSES, "test_other": "def broken(:"},
        1,
        "a test failed or has an error",
        ("test_other.py", "SyntaxError: invalid syntax"),
        ("--continue-on-collection-errors",),
    ),
    "a file cannot be imported under xdist": Red(
        {"test_it": PASSES, "test_other": "import no_such_module"},
        1,
        "a test failed or has an error",
        ("test_other.py", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("-n1",),
    ),
    "pytest has an internal error": Red(
        {"test_it": PASSES, "conftest": "def pytest_runtest_logfinish(nodeid): raise RuntimeError('a broken plugin')"},
        3,
        "pytest or a plugin has an internal error",
        ("RuntimeError: a broken plugin",),
    ),
    "a marker is wrong": Red(
        {"test_it": "import pytest\n@pytest.mark.jumpstarter(label='a=b')\n" + PASSES},
        4,
        "pytest cannot start: an option, a configuration or a marker is wrong",
        ("label",),
    ),
    "no test is found": Red({"test_it": "\n"}, 5, "no tests were found", ()),
    "a device is not there": Red(
        {"test_it": PASSES},
        8,
        "device errors are all that failed",
        ("test_passes", "board=absent"),
        ("--jmp-selector=board=absent", "--jmp-wait=1s"),
    ),
    "a test ends the run": Red(
        {"test_it": "import pytest\ndef test_ends(dut): pytest.exit('the bench burns')\ndef test_later(dut): pass"},
        2,
        "the run was interrupted",
        ("the bench burns", "test_ends", "test_later"),
    ),
    "a worker crashes": Red(
        {"test_it": "import os\ndef test_dies(dut): os._exit(1)"},
        1,
        "a test failed or has an error",
        ("test_dies", "crashed"),
        ("-n1", "--max-worker-restart=0", "--jmp-ttl=5s"),
    ),
    "a lease is not released": Red(
        {
            "test_it": PASSES,
            "conftest": """
from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import RequestError

delete_lease = Client.delete_lease
def fail(*args, **more):
    delete_lease(*args, **more)
    raise RequestError("the answer was lost")
Client.delete_lease = fail
""",
        },
        8,
        "a lease could not be released",
        ("may still be held: the answer was lost; to release it: jmp delete leases pj-",),
    ),
    "SIGINT": Red({"test_it": HOLDS}, 130, "SIGINT ended the run", HELD, (), signal.SIGINT),
    "SIGTERM": Red({"test_it": HOLDS}, 143, "SIGTERM ended the run", HELD, (), signal.SIGTERM),
    "a plugin chooses the exit code": Red(
        {"test_it": PASSES, "conftest": "def pytest_sessionfinish(session): session.exitstatus = 77"},
        77,
        "a plugin chose this exit code",
        ("77",),
    ),
    "one of two subtests fails": Red(
        {
            "test_it": """
def test_parts(dut, subtests):
    with subtests.test("left"): assert dut is None, "no left"
    with subtests.test("right", number=7): assert dut is None, "no right"
    with subtests.test("all"): pass
"""
        },
        1,
        "a test failed or has an error",
        ("no left",),
        ("-v",),
    ),
    "a device is held": Red(
        {"test_it": "def test_fails(dut): assert dut is None\ndef test_later(dut): pass"},
        1,
        "a device is held after a failure",
        ("to reach it:", "to release it:", "test_fails", "test_later"),
        ("--jmp-hold-on-failure=10m",),
    ),
    "a check fails": Red(
        {"test_it": PASSES},
        1,
        "a check found faults, or tests without a device",
        ("no exporter matches board=none", "test_passes"),
        ("--jmp-check", "--jmp-selector=board=none"),
    ),
    "the lab cannot be checked": Red(
        {"test_it": PASSES},
        1,
        "a check found faults, or tests without a device",
        ("no-such-client",),
        ("--jmp-check", "--jmp-client=no-such-client"),
    ),
    "two failures end the run": Red(
        {"test_it": "".join(f"def test_{n}(dut): assert {n} > 2\n" for n in (1, 2, 3, 4))},
        1,
        "a test failed or has an error",
        ("stopping after 2 failures", "test_1", "test_2", "test_3", "test_4"),
        ("--maxfail=2",),
    ),
    "the first failure ends the run under xdist": Red(
        {"test_it": "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_n(dut, n): assert n"},
        2,
        "the run was interrupted",
        ("stopping after 1 failures", "test_n[0]", "test_n[4]"),
        ("-x", "-n1", "-p", "no:rerunfailures"),
    ),
    "a plugin fails as the run begins": Red(
        {"test_it": PASSES, "conftest": "def pytest_sessionstart(): raise RuntimeError('no bench')"},
        3,
        "pytest or a plugin has an internal error",
        ("RuntimeError: no bench",),
    ),
    "a plugin fails as the run ends": Red(
        {"test_it": PASSES, "conftest": "def pytest_sessionfinish(): raise RuntimeError('no upload')"},
        1,
        LATE,
        ("RuntimeError: no upload",),
    ),
    "a plugin fails in the summary": Red(
        {"test_it": PASSES, "conftest": "def pytest_terminal_summary(): raise RuntimeError('no upload')"},
        1,
        LATE,
        ("RuntimeError: no upload",),
    ),
    "a plugin fails at the very end": Red(
        {"test_it": PASSES, "conftest": "def pytest_unconfigure(): raise RuntimeError('no upload')"},
        1,
        LATE,
        ("RuntimeError: no upload",),
    ),
    "a plugin ends the run at its end": Red(
        {"test_it": PASSES, "conftest": "import pytest\ndef pytest_sessionfinish(): pytest.exit('no upload', 7)"},
        7,
        "a plugin chose this exit code",
        ("no upload",),
    ),
    "a test ends the run with exit code 0": Red(
        {"test_it": "import pytest\ndef test_ends(dut): pytest.exit('enough', 0)\ndef test_later(dut): pass"},
        0,
        "a test or plugin ended the run early, without a failure",
        ("enough", "test_ends", "test_later"),
    ),
    "a plugin ends the run": Red(
        {"test_it": "def test_a(dut, request): request.session.shouldstop = 'enough'\ndef test_later(dut): pass"},
        2,
        "the run was interrupted",
        ("enough", "test_later"),
    ),
    "each worker crashes as it starts": Red(
        {
            "test_it": PASSES,
            "conftest": "import os\nif 'PYTEST_XDIST_WORKER' in os.environ: os._exit(3)",
        },
        3,
        "workers crashed before a test began",
        ("gw0", "Not properly terminated"),
        ("-n1", "--max-worker-restart=0"),
    ),
    "each worker fails as it starts": Red(
        {
            "test_it": PASSES,
            "conftest": """
import os, pytest
def pytest_sessionstart():
    if "PYTEST_XDIST_WORKER" in os.environ: raise LookupError("no such bench")
""",
        },
        3,
        "pytest or a plugin has an internal error",
        ("LookupError: no such bench",),
        ("-n1", "--max-worker-restart=0"),
    ),
    "workers collect different tests": Red(
        {
            "test_it": "import os\nif os.environ.get('PYTEST_XDIST_WORKER') == 'gw0':\n def test_a(): pass\n" + PASSES,
        },
        1,
        "a test failed or has an error",
        ("Different tests were collected between gw",),
        ("-n2",),
    ),
    "a path is wrong": Red(
        {"test_it": PASSES},
        4,
        "pytest cannot start: an option, a configuration or a marker is wrong",
        ("file or directory not found: no_such.py",),
        ("no_such.py",),
    ),
    "a role is unknown": Red(
        {"test_it": PASSES},
        4,
        "pytest cannot start: an option, a configuration or a marker is wrong",
        ("no device fixture is named 'gate' (in gate:a=b)",),
        ("--jmp-selector=gate:a=b",),
    ),
    "SIGHUP": Red({"test_it": HOLDS}, 129, "SIGHUP ended the run", HELD, (), signal.SIGHUP),
    "pytest has an internal error in a teardown": Red(
        {
            "test_it": PASSES,
            "conftest": """
def pytest_runtest_logreport(report):
    if report.when == "teardown":
        raise OSError("no space")
""",
        },
        3,
        "pytest or a plugin has an internal error",
        ("OSError: no space",),
    ),
    "tests fail in other ways": Red(
        {"test_it": OTHER_WAYS, "test_module": "def setup_module(): raise OSError('no power')\n" + PASSES},
        1,
        "a test failed or has an error",
        (
            "worn out",
            "lost in __del__",
            "lost in a thread",
            "first bad end",
            "second bad end",
            "known bug",
            "was cancelled",
            "the tool gave up",
            "still warm",
            "no power",
        ),
        ("-Werror",),
    ),
    "files cannot be collected for other reasons": Red(
        {
            "test_it": PASSES,
            "test_mark": "import pytest\n@pytest.mark.typo\ndef test_a(): pass",
            "test_name": "import pytest\n@pytest.mark.parametrize('nope', [1])\ndef test_a(dut): pass",
            "test_exit": "import pytest\npytest.exit('no bench here', 9)",
            "sub/conftest": "import no_such_module",
            "sub/test_b": "def test_b(): pass",
        },
        2,
        "test files cannot be imported",
        ("'typo' not found in `markers`", "function uses no argument 'nope'", "no bench here", "no_such_module"),
        ("--strict-markers",),
    ),
    "a worker crashes as it collects": Red(
        {"test_it": PASSES, "test_other": "import os\nos._exit(4)"},
        3,
        "workers crashed before a test began",
        ("gw1", "Not properly terminated"),
        ("-n1", "--max-worker-restart=1"),
    ),
    "Ctrl-C as a file is imported": Red(
        {"test_it": PASSES, "test_other": "raise KeyboardInterrupt('in an import')"},
        2,
        "the run was interrupted",
        ("in an import",),
    ),
    "a file leaves Python as it is imported": Red(
        {"test_it": PASSES, "test_other": "import sys\nsys.exit('no bench here')"},
        3,
        "pytest or a plugin has an internal error",
        ("SystemExit: no bench here",),
    ),
    "a plugin fails as tests are collected": Red(
        {"test_it": PASSES, "conftest": "def pytest_collection_modifyitems(): raise LookupError('no plan')"},
        3,
        "pytest or a plugin has an internal error",
        ("LookupError: no plan",),
    ),
    "all tests are deselected": Red({"test_it": PASSES}, 5, "no tests were found", (), ("-k", "nothing")),
    "there are too many warnings": Red(
        {"test_it": "import warnings\ndef test_passes(dut): warnings.warn('worn out')"},
        6,
        "there are more warnings than --max-warnings allows",
        ("worn out",),
        ("--max-warnings=0",),
    ),
    "SIGTERM under xdist": Red({"test_it": HOLDS}, 143, "SIGTERM ended the run", HELD, ("-n1",), signal.SIGTERM),
}
if pytest.version_tuple < (9, 1):
    del RED["there are too many warnings"]  # it has no --max-warnings


def test_a_full_disk_costs_no_other_report(suite: pytest.Pytester) -> None:
    """JUnit and a report for which the disk has no space are told by all others."""
    suite.makepyfile(test_it=PASSES)
    for name in ("run.md", "junit.xml"):
        (suite.path / name).symlink_to("/dev/full")
    with running(suite, *OPTIONS) as process:
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 1, shown
    for text in (shown, *((suite.path / name).read_text() for name in ("run.json", "run.html"))):
        assert LATE in text
        assert "OSError: [Errno 28] No space left on device" in text
    assert "not written: " in shown


def test_a_report_that_cannot_be_written(suite: pytest.Pytester) -> None:
    """A report for which the disk has no space makes a green run red, and all other outputs tell why."""
    suite.makepyfile(test_it=PASSES)
    (suite.path / "run.md").symlink_to("/dev/full")
    with running(suite, *OPTIONS) as process:
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 1, shown
    for text in (shown, *((suite.path / name).read_text() for name in ("run.json", "run.html", "junit.xml"))):
        assert "a report could not be written" in text
        assert "No space left on device" in text
        assert str(suite.path / "run.md") in text


def outputs(suite: pytest.Pytester, red: Red) -> tuple[int, dict[str, str]]:
    """Run the suite, and return the exit code and all outputs, without their markup."""
    for name, source in red.files.items():
        (suite.path / name).parent.mkdir(exist_ok=True)
        (suite.path / f"{name}.py").write_text(source)
    with running(suite, *OPTIONS, *red.options) as process:
        if red.signal:
            until((suite.path / "HOLDING").exists, timeout=60)
            process.send_signal(red.signal)
        shown = process.communicate(timeout=60)[0]
    found = {"terminal": shown} | {name: (suite.path / name).read_text() for name in FILES}
    return process.returncode, {name: html.unescape(text) for name, text in found.items()}


@pytest.mark.parametrize("kind", RED)
def test_each_output_tells_it(suite: pytest.Pytester, client: Client, kind: str) -> None:
    """Terminal, Markdown, JSON, HTML and JUnit tell the exit code, what it means, and what is red."""
    red = RED[kind]
    code, found = outputs(suite, red)
    for lease in client.list_leases():
        client.delete_lease(lease.name)
    assert code == red.code, found["terminal"]
    missing = [(name, word) for name, text in found.items() for word in (red.meaning, *red.words) if word not in text]
    assert missing == [], found["terminal"]
    data = json.loads((suite.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert (data["run"]["exit_code"], data["run"]["meaning"]) == (red.code, red.meaning)
    root = ET.parse(suite.path / "junit.xml").getroot()[0]
    assert properties(root)["jumpstarter.exit_code"] == str(red.code)
    assert all(case.get("name") for case in root.iter("testcase"))


KILLED_AFTER = 10.0
"""Seconds from the first signal of a CI system to SIGKILL: until then all is told. A test waits twice as long."""


class Cancelled:
    """The time since the first signal to a job."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 2 * KILLED_AFTER

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; that it does not before a CI system would kill the job is a failure."""
        until(holds, timeout=self._end - time.monotonic())


HANGS = """
import pathlib, pytest, time
@pytest.fixture
def slow(dut):
    yield
    pathlib.Path("TEARDOWN").touch()
    time.sleep(60)
def test_fails(dut): assert dut is None, "the product is to blame"
def test_holds(slow):
    pathlib.Path("HOLDING").touch()
    time.sleep(60)
"""


def killed(suite: pytest.Pytester, *signals: signal.Signals) -> str:
    """Run a suite whose teardown hangs, cancel it as a CI system does, and return what it had printed."""
    suite.makepyfile(HANGS)
    with (suite.path / "out.txt").open("w") as out, running(suite, *OPTIONS, stdout=out) as process:
        until((suite.path / "HOLDING").exists, timeout=60)
        cancelled = Cancelled()
        for number in signals[:-1]:
            process.send_signal(number)
            cancelled.until((suite.path / "TEARDOWN").exists)
        process.send_signal(signals[-1])
        cancelled.until(lambda: process.poll() is not None)
    return (suite.path / "out.txt").read_text()


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM, signal.SIGKILL), (signal.SIGINT, signal.SIGTERM)],
    ids=["SIGTERM then SIGKILL, as GitLab and Jenkins", "SIGINT then SIGTERM, as GitHub"],
)
def test_cancelled_in_a_teardown_that_hangs(suite: pytest.Pytester, signals: tuple[signal.Signals, ...]) -> None:
    """A job that is killed in its teardown has left reports, JUnit, and the traceback of what had failed."""
    found = {"terminal": killed(suite, *signals)} | {name: (suite.path / name).read_text() for name in FILES}
    for name, text in found.items():
        assert "AssertionError: the product is to blame" in html.unescape(text), name
        assert f"{signals[0].name} ended the run" in text, name
        assert "test_holds" in html.unescape(text), name


TWICE = """
import os, pathlib, signal, pytest
def test_fails(dut): assert dut is None, "the product is to blame"
def test_holds(dut):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        if pathlib.Path("GOES-ON").exists(): os.kill(os.getpid(), signal.SIGTERM)
        raise
def test_later(dut): pass
"""
AGAIN = "import os, signal\ndef again(*_): os.kill(os.getpid(), signal.SIGTERM)\n"
ON_FILE = """
import pathlib
replace = pathlib.Path.replace
def pytest_keyboard_interrupt():
    def patched(self, target):
        replace(self, target)
        if target.name == {name!r}: again()
    pathlib.Path.replace = patched
"""


@pytest.mark.parametrize(
    "conftest",
    [
        "import pathlib\npathlib.Path('GOES-ON').touch()",
        AGAIN + "def pytest_keyboard_interrupt(): again()",
        AGAIN + "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): again()",
        *(AGAIN + ON_FILE.format(name=name) for name in FILES),
        AGAIN + "def pytest_terminal_summary(): again()",
        AGAIN + "def pytest_unconfigure(): again()",
    ],
    ids=["test", "interrupt", "finish", *FILES, "summary", "unconfigure"],
)
def test_second_signal_at_any_moment(suite: pytest.Pytester, client: Client, conftest: str) -> None:
    """Whenever a second signal comes, all outputs have told all, the summary is whole, and the board is free."""
    suite.makepyfile(TWICE)
    suite.makeconftest(conftest)
    with (
        (suite.path / "out.txt").open("w") as out,
        running(suite, *OPTIONS, "--capture=fd", stdout=out) as process,
    ):
        assert process.wait(60) in (-signal.SIGTERM, 143)
    words = ["AssertionError: the product is to blame", "::test_holds", "::test_later", "SIGINT ended the run"]
    assert missing(suite.path, words) == [], (suite.path / "out.txt").read_text()
    assert [*client.list_leases()] == []
    assert [*suite.path.glob(".*.[0-9]*")] == []


def missing(folder: Path, words: Sequence[str], names: Sequence[str] = ("out.txt", *FILES)) -> list[tuple[str, str]]:
    """Return the words that files do not have."""
    files = {name: folder / name for name in names}
    texts = {name: html.unescape(file.read_text()) if file.exists() else "" for name, file in files.items()}
    return [(name, word) for name, text in texts.items() for word in words if word not in text]


IN_A_FLASH = """
import http.server, pathlib, threading, time
class Stuck(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000000000")
        self.end_headers()
    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(bytes(100_000))
        pathlib.Path("HOLDING").touch()
        time.sleep(60)
def test_fails(dut): assert dut is None, "the product is to blame"
def test_holds(dut):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    dut.storage.flash(f"http://127.0.0.1:{server.server_port}/image.bin")
def test_later(dut): pass
"""


@pytest.mark.parametrize(
    ("source", "workers"), [(IN_A_FLASH, ()), (HANGS + "def test_later(dut): pass\n", ("-n1",))], ids=["flash", "xdist"]
)
def test_cancelled_and_killed(
    pytester: pytest.Pytester, boards: FaultyLab, source: str, workers: tuple[str, ...]
) -> None:
    """A job that gets SIGTERM, then SIGKILL, has told all before the second, in all outputs, and frees its board."""
    pytester.makepyfile(source)
    options = (*OPTIONS, "--jmp-ttl=5s", *workers)
    words = ["AssertionError: the product is to blame", "SIGTERM ended the run", "::test_holds", "::test_later"]
    with (pytester.path / "out.txt").open("w") as out, running(pytester, *options, stdout=out) as process:
        until((pytester.path / "HOLDING").exists, timeout=60)
        process.send_signal(signal.SIGTERM)
        Cancelled().until(lambda: not missing(pytester.path, words))
        process.kill()
        process.wait(30)
    assert missing(pytester.path, words) == []
    until(lambda: boards.leases() == [], timeout=30)


FAILS_AND_HOLDS = """
import pathlib, time
def test_fails_too(): assert 0, "a worker without a board"
def test_holds_too():
    pathlib.Path("HOLDING-2").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("signals", "is_group", "workers"),
    [((signal.SIGINT, signal.SIGTERM), False, 0), ((signal.SIGTERM,), True, 2)],
    ids=["GitHub, to pytest", "GitLab and Jenkins, to pytest and two workers"],
)
def test_cancelled_while_the_lab_is_silent(
    pytester: pytest.Pytester, boards: FaultyLab, signals: tuple[int, ...], is_group: bool, workers: int
) -> None:
    """All is told before SIGKILL, by whatever signals to whatever processes, while nothing answers the release."""
    pytester.makepyfile(test_a=HOLDS.replace("HOLDING", "HOLDING-1"), test_b=FAILS_AND_HOLDS if workers else "")
    options = (*OPTIONS, "--jmp-ttl=5s", *((f"-n{workers}", "--dist=loadfile") if workers else ()))
    words = ["AssertionError: the product is to blame", "::test_holds", "::test_later"]
    words += ["AssertionError: a worker without a board", "::test_holds_too"] if workers else []
    words.append(f"{signal.Signals(signals[0]).name} ended the run")
    with (
        (pytester.path / "out.txt").open("w") as out,
        running(pytester, *options, stdout=out, is_group=is_group) as process,
    ):
        until(lambda: len([*pytester.path.glob("HOLDING-*")]) == max(1, workers), timeout=60)
        with frozen(boards.pid):
            cancelled = Cancelled()
            for number in signals:
                (os.killpg if is_group else os.kill)(process.pid, number)
                cancelled.until(lambda: not missing(pytester.path, words, FILES))
            cancelled.until(lambda: not missing(pytester.path, words))
            (os.killpg if is_group else os.kill)(process.pid, signal.SIGKILL)
            process.wait(30)
            assert missing(pytester.path, words) == []


def told(suite: pytest.Pytester, *options: str) -> dict[str, str]:
    """Run a test that passes, and return all outputs without their markup."""
    suite.makepyfile(test_it=PASSES)
    result = suite.runpytest_subprocess(*OPTIONS, *options)
    result.assert_outcomes(passed=1)
    found = {"terminal": result.stdout.str()} | {name: (suite.path / name).read_text() for name in FILES}
    return {name: html.unescape(text) for name, text in found.items()}


def test_a_hook_that_failed_is_told(suite: pytest.Pytester) -> None:
    """A hook of an exporter that failed without a failure of a test is in each output, although the run is green."""
    hook = "hooks:\n  afterLease: {script: 'false', timeout: 20, onFailure: endLease}\n"
    power = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
    (suite.path / "lab.yaml").write_text(exporter_document("hook-3", "kind: dut", power, hook))
    found = told(suite, "--jmp-lab=lab.yaml", "--jmp-selector=kind=dut")
    assert [name for name, text in found.items() if "afterLease hook failed" not in text] == []


def test_an_adopted_lease_is_told(suite: pytest.Pytester, client: Client) -> None:
    """A lease that the run adopted, and did not release, is in each output."""
    lease = client.create_lease(lease_id="adopted-1", selector="kind=dut", duration=60)
    try:
        found = told(suite, f"--jmp-lease={lease.name}")
    finally:
        client.delete_lease(lease.name)
    assert [name for name, text in found.items() if "adopted" not in text.replace(lease.name, "").lower()] == []
