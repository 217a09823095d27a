"""Reports of a run whose process ends without a word: what had failed is on disk all the same."""

from __future__ import annotations

import html
import json
import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import cast

import jsonschema
import pytest
from test_report import SCHEMA, properties

from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.report.drafts import Drafts

FILES = ("run.json", "run.md", "run.html", "junit.xml")
OPTIONS = [*(f"--jmp-report={name}" for name in FILES[:3]), "--junitxml=junit.xml"]
NOT_ENDED = "the run has not ended, or its process was killed"


@pytest.mark.parametrize(
    ("death", "options"),
    [
        ("os._exit(0)", ()),
        ("os.kill(os.getpid(), signal.SIGTERM)", ()),
        ("ctypes.string_at(0)", ()),
        ("time.sleep(60)", ("--timeout=1", "--timeout-method=thread")),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("-n0",)),
        ("kill_controller()", ("-n1",)),
    ],
    ids=[
        "os._exit",
        "SIGTERM before the first device",
        "segmentation fault",
        "pytest-timeout",
        "SIGKILL",
        "SIGKILL of the controller process of xdist",
    ],
)
def test_what_had_failed_is_on_disk(pytester: pytest.Pytester, death: str, options: tuple[str, ...]) -> None:
    """All files have the traceback of the test that had failed, and say that the run did not end; none is green."""
    for name in FILES:
        (pytester.path / name).write_text("all is well")  # of an earlier run
    pytester.makepyfile(
        f"""
        import ctypes, json, os, pathlib, signal, time
        def kill_controller():
            deadline = time.monotonic() + 20  # for the draft with this test
            while "test_dies" not in str(json.loads(pathlib.Path("run.json").read_text())["run"]["interrupted"]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        def test_passes(): pass
        def test_fails(): assert 1 == 2, "the product is to blame"
        def test_dies(): {death}
        def test_later(): pass
        """
    )
    pytester.runpytest_subprocess(*OPTIONS, *options)
    for name in FILES:
        text = html.unescape((pytester.path / name).read_text())
        for words in ("the product is to blame", "test_dies", "test_later", NOT_ENDED):
            assert words in text, (name, words)
    data = json.loads((pytester.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert data["run"]["exit_code"] is None
    assert [test["outcome"] for test in data["tests"]] == ["passed", "failed", ""]
    root = ET.parse(pytester.path / "junit.xml").getroot()[0]
    assert [case.get("name") for case in root.iter("testcase")] == ["test_passes", "test_fails"]
    assert "jumpstarter.exit_code" not in properties(root)
    assert sorted(path.name for path in pytester.path.glob(".run*")) == []


def test_death_in_an_import(pytester: pytest.Pytester) -> None:
    """A process that ends during the collection leaves no report of an earlier run."""
    (pytester.path / "run.md").write_text("all is well")
    pytester.makepyfile("import os\nos._exit(0)")
    pytester.runpytest_subprocess(*OPTIONS)
    assert [name for name in FILES if NOT_ENDED not in (pytester.path / name).read_text()] == []


def test_nothing_of_a_draft_stays(pytester: pytest.Pytester) -> None:
    """A run that ends has no word of its drafts in any file."""
    pytester.makepyfile("def test_a(): assert 0\ndef test_b(): pass\ndef test_c(): assert 0")
    assert pytester.runpytest(*OPTIONS).ret == pytest.ExitCode.TESTS_FAILED
    for name in FILES:
        text = (pytester.path / name).read_text()
        assert NOT_ENDED not in text
    data = json.loads((pytester.path / "run.json").read_text())
    assert [(test["outcome"], test["reason"]) for test in data["tests"]][1:2] == [("passed", "")]
    root = ET.parse(pytester.path / "junit.xml").getroot()[0]
    assert not {"jumpstarter.interrupted", "jumpstarter.never_began"} & properties(root).keys()


def test_drafts_take_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tests fail, drafts take three seconds and a twentieth of the run; without news they are few."""
    now, written = [100.0], []
    monkeypatch.setattr(real_time, "monotonic", lambda: now[0])

    def write() -> None:
        written.append(now[0])
        now[0] += 0.3

    drafts = Drafts(write)
    good, bad = (cast("pytest.TestReport", SimpleNamespace(failed=failed)) for failed in (False, True))

    def run(report: pytest.TestReport) -> list[float]:
        written.clear()
        end = now[0] + 1000
        while now[0] < end:
            now[0] += 0.5
            drafts.pytest_runtest_logstart()
            list(drafts.pytest_runtest_logreport(report))
        return written

    assert len(run(good)) == pytest.approx(1000 / 30, abs=2)
    first = run(bad)
    assert first[1] - first[0] < 1, "the first failures are written at once"
    assert 0.3 * len(first) == pytest.approx(3 + 2000 / 20 - 0.3 * 33, abs=1)


REFUSED = "pytest cannot start: an option, a configuration or a marker is wrong"


@pytest.mark.parametrize(
    ("options", "conftest", "code", "words"),
    [
        (("--no-such-option",), "", 4, "unrecognized arguments: --no-such-option"),
        (("--jmp-wait=soon",), "", 4, "--jmp-wait: "),
        (("-n", "many"), "", 4, "invalid parse_numprocesses value: 'many'"),
        (("-n1", "--pdb"), "", 4, "--pdb is incompatible with distributing tests"),
        ((), "import no_such_module", 4, "ModuleNotFoundError: No module named 'no_such_module'"),
        ((), "def pytest_configure(): raise OSError('no bench')", 3, "OSError: no bench"),
    ],
    ids=["option", "our value", "value of a plugin", "options together", "conftest", "internal error"],
)
@pytest.mark.parametrize("is_ini", [False, True], ids=["command line", "ini"])
def test_a_run_that_cannot_start(
    pytester: pytest.Pytester, options: tuple[str, ...], conftest: str, code: int, words: str, is_ini: bool
) -> None:
    """A run that ends before its session begins replaces the reports of an earlier run by the reason."""
    names = FILES[:3]
    for name in names:
        (pytester.path / name).write_text("all is well")
    pytester.makeconftest(conftest)
    pytester.makepyfile("def test_passes(): pass")
    if is_ini:
        pytester.makeini("[pytest]\njmp_report =\n" + "".join(f"  {name}\n" for name in names))
    result = pytester.runpytest_subprocess(*(() if is_ini else OPTIONS[:3]), *options)
    assert result.ret == code
    for name in names:
        text = html.unescape((pytester.path / name).read_text())
        assert "all is well" not in text, name
        assert words in text, name
    data = json.loads((pytester.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert data["run"]["exit_code"] == code
    assert code != 4 or data["run"]["meaning"] == REFUSED


@pytest.mark.parametrize("option", ["--help", "--version", "--markers", "--fixtures"])
def test_a_question_to_pytest_changes_no_report(pytester: pytest.Pytester, option: str) -> None:
    """Options that only show something leave the reports of the last run."""
    (pytester.path / "run.json").write_text("all is well")
    assert pytester.runpytest_subprocess("--jmp-report=run.json", option).ret == 0
    assert (pytester.path / "run.json").read_text() == "all is well"


@pytest.mark.parametrize(("source", "code"), [("import no_such_module", 2), ("def test_passes(): pass", 0)])
def test_only_collected(pytester: pytest.Pytester, source: str, code: int) -> None:
    """With `--collect-only` a report is replaced if something is wrong."""
    for name in FILES[:3]:
        (pytester.path / name).write_text("all is well")
    pytester.makepyfile(source)
    assert pytester.runpytest_subprocess("--collect-only", *OPTIONS[:3]).ret == code
    for name in FILES[:3]:
        text = (pytester.path / name).read_text()
        assert ("all is well" in text) == (code == 0), name
        assert ("No module named" in text) == (code == 2), name
