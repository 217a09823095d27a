"""What boards, drivers, exporters, hooks and suites say: no control code, no command, no markup in any output."""

from __future__ import annotations

import json
import os
import random
import re
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from unpacked import dumped, unpacked

from pytest_jumpstarter.evidence.record import LeaseTimes
from pytest_jumpstarter.masking import learn, masked_chunks, safe
from pytest_jumpstarter.masking.structures import safe_record
from pytest_jumpstarter.report.page import page
from pytest_jumpstarter.report.run_record import RunRecord

SEED = 18
COUNT = int(os.environ.get("PYTEST_FUZZ", "300"))
MIB = 1 << 20

CONTROLS = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(code) not in "\t\n"
]
SEQUENCES = (
    "\x1b[31m", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://evil/\x1b\\", "\x9b31m", "\x9d0;title\x9c",
    "\x1bP+q\x1b\\", "\x1b(0", "\x1bc", "\x1b", "\r", "\r\n", "\x08", "\x0b", "\x0c", "\x85", "\u2028", "\u202e",
)  # fmt: skip
COMMANDS = (
    "::error file=a.py,line=1::words", "::add-mask::e", "::set-output name=a::b", "  ::group::a", "##[error]words",
    "##[command]rm", "##teamcity[buildStatus status='SUCCESS']", "##vso[task.setvariable variable=a]b",
    "section_start:1560896352:name\r\x1b[0K", "section_end:1:name", "--- group", "+++ open", "~~~ quiet", "^^^ +++",
    "[[ATTACHMENT|/etc/passwd]]",
)  # fmt: skip
MARKUP = (
    "<script>alert(1)</script>", "</pre><img src=x onerror=alert(2)>", "[x](javascript:alert(3))", "a | b", "`c`",
    "]]>",
    "&lt;", "#",
)  # fmt: skip

# What CI systems obey, as their runners find it; independent of what breaks it.
OBEYED = re.compile(
    r"^\s*::[A-Za-z-]+|##\[|##vso\[|##teamcity\[|section_(?:start|end):\d+:|^(?:---|\+\+\+|~~~) |^\^\^\^ \+\+\+"
    r"|\[\[ATTACHMENT\|",
    re.MULTILINE,
)


def hostile(source: random.Random) -> str:
    """Return words of some lines, each made of controls, commands, markup and plain words."""
    pieces = [source.choice((*SEQUENCES, *COMMANDS, *MARKUP, "plain", "\n", "\n", " ")) for _ in range(12)]
    return "".join(piece + source.choice(CONTROLS) * source.randrange(2) for piece in pieces)


def faults(text: str) -> list[str]:
    """Return the control codes in a text, and the commands that a CI system would obey."""
    return [repr(each) for each in text if each in FORBIDDEN] + OBEYED.findall(text)


FORBIDDEN = frozenset(CONTROLS)


def test_every_control_goes() -> None:
    """No control code of Unicode is left, alone or between letters; a tab and a line end stay, and so do letters."""
    assert [each for each in CONTROLS if FORBIDDEN & set(safe(f"a{each}b"))] == []
    plain = "tab\there\nnew line, ümlaut, 漢字, ไทย, 🚀"
    assert safe(plain) == plain


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_broken(command: str) -> None:
    """A command to a CI system is broken by a visible backslash, after any kind of line end, and once."""
    for start in ("", "first line\n", "first line\r", "\x1b[0m", "\x1b[2K\r"):
        shown = safe(f"{start}{command}")
        assert OBEYED.search(shown) is None
        assert shown.count("\\") == 1
        assert safe(shown) == shown


def test_escape_sequences_hide_nothing() -> None:
    """Escape sequences go, their unfinished beginnings do not take the text with them, and no secret hides in one."""
    learn(secret := "hidden-passphrase")
    assert safe("\x1b[1;31mred\x1b[0m \x1b]0;title\x07text \x9b2Kline") == "red text line"
    assert safe("\x1b]0;a title that never ends") == "�]0;a title that never ends"
    assert secret not in safe(f"{secret[:6]}\x1b[31m{secret[6:]}")


def test_fuzz() -> None:
    """Hostile words are safe in text, Markdown, HTML and JSON; each file stays what it is."""
    source = random.Random(SEED)
    for number in range(COUNT):
        words = hostile(source)
        assert faults(safe(words)) == [], words
        if number % 30 == 0:
            _check_files(words)


def _check_files(words: str) -> None:
    record = RunRecord()
    lease = {
        "key": "main-1",
        "worker": "main",
        "role": "dut",
        "lease": words,
        "exporter": words,
        "labels": {words: words},
    }
    moments = dict.fromkeys(("asked", "ready", "connected", "prepared", "released"), time.time())
    record.use.add_leases([cast("LeaseTimes", lease | moments | {"is_adopted": True, "hook_failures": []})])
    problem = {"kind": "not released", "where": safe(words), "reason": safe(words), "text": safe(words)}
    end: Any = {
        "exit_code": 1,
        "meaning": "a test failed",
        "ended_by": safe(words),
        "interrupted": [],
        "never_began": [words],
    }
    report: Any = SimpleNamespace(
        nodeid="test_a.py::test_b", when="call", outcome="failed", longrepr=words, longreprtext=words, start=0, stop=1,
        sections=[(words, words)], user_properties=[(words, words)],
    )  # fmt: skip
    record.add(report, None, "failed")
    data = record.as_data(end | {"problems": [problem]}, versions={}, origin={"url": words})
    text = json.dumps(data)
    assert faults("\n".join(texts_of(json.loads(text)))) == []
    for name in ("run.md", "run.html"):
        shown = page(data, Path(name))
        whole = unpacked(shown) if name == "run.html" else shown
        assert [each for each in whole if each in FORBIDDEN] == []
        assert "<img" not in shown
        assert "<script>alert" not in shown
    assert OBEYED.search(page(data, Path("run.md"))) is None


def texts_of(value: Any) -> list[str]:
    """Return all texts in data, keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in texts_of(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    return [value] if isinstance(value, str) else []


REPEATED = (
    "eyJ-", "eyJaaaaaa.", "eyJaaaaaa.aaaaaa-", "://a:b", "://a:b@", "x://u:p/", "@", "...", "...a",
    "...secr", "secr...",
    "Bearer ", "authorization: ", "basic abcdefg ", "a=", "?token=a&", "token", "tokentoken=a", "a.", "\x1b[",
    "\x1b]0;a", "\x9d", "##", "##vso[", "\n ", "section_start:", "[[", "\r", "A", "secret-but-not-qui",
)  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
def test_time_grows_with_the_length(piece: str) -> None:
    """Eight times the text takes about eight times as long, whatever is repeated in it: with its square it were 64."""
    learn("secret-but-not-quite")

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        times = []
        for _ in range(3):
            start = time.process_time()
            safe(text)
            times.append(time.process_time() - start)
        return min(times)

    small = int(os.environ.get("PYTEST_LINEAR_MIB", "0")) * MIB // 8 or 8 << 10
    while (taken := seconds(small)) < 0.005:  # long enough to be measured
        small *= 2
    assert seconds(8 * small) / taken < 32


def test_a_flood_of_one_line_is_masked_as_it_streams() -> None:
    """Data without a line end is masked piece by piece, and a secret in it is found wherever it stands."""
    learn(secret := "secret-in-the-flood")
    data = b"eyJ-" * 50_000 + secret.encode() + b"eyJ-" * 50_000
    found = b"".join(masked_chunks(data[start : start + 10_000] for start in range(0, len(data), 10_000)))
    assert secret.encode() not in found
    assert found.replace(b"***", secret.encode()) == data


def test_a_secret_of_digits_damages_no_data() -> None:
    """A passphrase that is a number, or a word of the format, changes texts only: numbers, keys and outcomes stay."""
    for secret in ("1795", "passed", "worker"):
        learn(secret)
    data = {
        "start": 1795.1795,
        "outcome": "passed",
        "worker": "main",
        "reason": "1795 workers passed",
        "labels": {"1795": "x"},
    }
    shown = safe_record(data, ours=("outcome", "worker"), maps=("labels",))
    assert shown == data | {"reason": "*** ***s ***", "labels": {"***": "x"}}
    assert json.loads(json.dumps(shown)) == shown


SUITE = """
    import doctest, logging, pathlib, threading, warnings
    import pytest
    from pytest_jumpstarter.errors import DeviceError
    WORDS = pathlib.Path("words").read_bytes().decode("utf-8", "surrogatepass")

    def test_before_any_device():
        print(WORDS)
        assert WORDS == ""
    def test_console(dut, console):
        dut.power.on()
        console.expect("login: ")
        for line in WORDS.split("\\n"):
            console.sendline(line)
        console.expect("never", timeout=1)
    def test_driver(dut):
        dut.power.call(WORDS)
    def test_said(dut, record_property):
        print(WORDS)
        record_property("words", WORDS)
        warnings.warn(WORDS)
        logging.getLogger("jumpstarter.exporter.dut.driver").warning("%s", WORDS)
        raise RuntimeError(WORDS)
    def test_skipped(dut): pytest.skip(WORDS)
    @pytest.mark.parametrize("word", [WORDS], ids=[WORDS.replace("/", "")])
    def test_id(dut, word): assert 0
    def test_missing(dut, request): request.getfixturevalue(WORDS)
    def test_doctest():
        examples = [doctest.Example("1", "2")]
        test = doctest.DocTest(examples, {}, "name", "file", 0, WORDS)
        raise doctest.DocTestFailure(test, examples[0], WORDS)
    def test_noted(dut):
        error = ExceptionGroup(WORDS, [ValueError(WORDS), KeyError(WORDS)])
        error.add_note(WORDS)
        raise error
    def test_compared(dut): assert {WORDS: [WORDS]} == {WORDS: [WORDS + "."]}
    def test_logged(dut):
        logging.addLevelName(36, "LEVEL\x1b[31m::error::")
        threading.current_thread().name = "\x1b[31mmain"
        for piece in ("\x1b", "[31m", "##", "vso[a]", WORDS):
            logging.getLogger(piece).log(36, piece, stack_info=True)
            print(piece, end="")
        assert 0
    def test_place(dut): warnings.warn_explicit(WORDS, UserWarning, "file\x1b[31m.py", 1)
    def test_lost(dut): raise DeviceError(WORDS)
    def test_subtest(dut, subtests):
        with subtests.test(WORDS):
            print(WORDS)
            assert WORDS == ""
"""
CONFTEST = """
    import pathlib
    WORDS = pathlib.Path("words").read_bytes().decode("utf-8", "surrogatepass")
    def pytest_jumpstarter_collect_evidence(folder):
        folder.add("own.txt", WORDS)
        raise RuntimeError(WORDS)
"""


@pytest.mark.parametrize(
    "how",
    [
        ("-rA", "--durations=3", "--setup-show", "--showlocals", "--junit-prefix=\x1b[31m::error::"),
        ("-n2", "-v", "-p", "no:rerunfailures", "--jmp-selector=board=virtual"),
    ],
    ids=["", "xdist"],
)
def test_no_output_has_hostile_words(suite: pytest.Pytester, how: tuple[str, ...]) -> None:
    """What a test says, its board, driver, log, warning, subtest, id and hooks, is safe in every file and terminal."""
    words = "\n".join(["begin", *SEQUENCES, *COMMANDS, *MARKUP, "".join(CONTROLS[::7]), "end"])
    (suite.path / "words").write_bytes(words.encode("utf-8", "surrogatepass"))
    suite.makeconftest(CONFTEST)
    suite.makepyfile(SUITE)
    files = ["--jmp-report=run.json", "--jmp-report=run.html", "--jmp-report=run.md", "--junitxml=junit.xml"]
    files += ["--jmp-history=history.db"]
    shown = ["--log-file=log.txt", "--jmp-artifacts=out", "--log-cli-level=INFO", "-p", "no:cacheprovider"]
    result = suite.runpytest_subprocess(*files, *shown, *how)
    paths = [path for path in (*suite.path.glob("*.*"), *suite.path.rglob("out/*/*")) if path.is_file()]
    paths = [path for path in paths if path.suffix not in (".py", ".ini")]
    texts = [path for path in paths if path.name not in ("console.log", "history.db")]
    found = {str(path.relative_to(suite.path)): path.read_text() for path in texts}
    found["history.db"] = dumped(suite.path / "history.db")
    found["terminal"] = "\n".join([*result.outlines, *result.errlines])
    found["run.json"] = "\n".join(texts_of(json.loads(found["run.json"])))
    found["run.html"] = re.sub("<style>.*?</style>|<script.*?</script>", "", found["run.html"], flags=re.DOTALL)
    attachments = re.compile(rf"\[\[ATTACHMENT\|{re.escape(str(suite.path))}/out/")
    found["junit.xml"] = attachments.sub("", found["junit.xml"])
    assert {name: faults(text)[:5] for name, text in found.items() if faults(text)} == {}
    assert {"own.txt", "notes.txt", "test.json", "exporter.jsonl"} <= {path.name for path in paths}
    assert found["terminal"].count("begin") >= 10
    assert "begin" in found["history.db"]
    assert len(attachments.findall((suite.path / "junit.xml").read_text())) >= 5


def test_a_timeout_has_few_characters(suite: pytest.Pytester) -> None:
    """A board that prints megabytes without a line end makes a short message."""
    suite.makepyfile(
        """
        import pexpect, pytest
        def test_it(dut, console):
            dut.power.on()
            console.expect("login: ")
            for _ in range(16):
                console.send("x" * 4096)
            with pytest.raises(pexpect.TIMEOUT) as caught:
                console.expect("never", timeout=2)
            assert len(console.before) > 20_000
            assert len(str(caught.value)) < 5_000
            assert "characters before" in str(caught.value)
        """
    )
    suite.runpytest().assert_outcomes(passed=1)
