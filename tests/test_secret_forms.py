"""A secret in every form in which it is shown, in every output: nowhere; and a report is never damaged by one."""

from __future__ import annotations

import html
import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import jsonschema
import pytest
from test_report import SCHEMA
from unpacked import dumped, unpacked

from pytest_jumpstarter.masking import learn, safe

SECRET = """pa"ss'ph\\rase&<w>+/?42"""
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": repr,
    "JSON": json.dumps,
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False),
    "repr of JSON": lambda text: repr(json.dumps(text)),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "repr of bytes": lambda text: repr(text.encode()),
    "URL": quote,
    "form": quote_plus,
    "HTML": html.escape,
    "shell": shlex.quote,
    "CSV": lambda text: text.replace('"', '""'),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "URL-safe base64": lambda text: urlsafe_b64encode(text.encode()).decode(),
    "base64 after a name": lambda text: b64encode(f"me:{text}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
}


def traces(text: str) -> list[str]:
    """Return the forms of the secret that are in a text, or at least eight characters of one."""
    found = []
    for name, form in FORMS.items():
        core = form(SECRET).strip("'\"b")
        parts = [core[start : start + 12] for start in range(0, len(core) - 12, 4)]
        found += [f"{name}: {part}" for part in parts if part in text and not re.fullmatch(r"[\\ ]+", part)]
    return found


@pytest.mark.parametrize("name", FORMS)
def test_form(name: str) -> None:
    """A known secret is masked in each form, and in a form that is printed in a list of a list."""
    learn(SECRET)
    assert traces(safe(f"before {FORMS[name](SECRET)} after, {[[FORMS[name](SECRET)]]}")) == []


def test_letters_beyond_ascii() -> None:
    """A secret with other letters is masked as it is and escaped, as in the id of a test."""
    learn(secret := "größe-漢字-🚀")
    for shown in (secret, json.dumps(secret), ascii(secret), repr(ascii(secret)), quote(secret), repr(secret.encode())):
        assert "***" in safe(shown), shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clone https://ghp_AAAABBBBCCCC@github.com/x", "clone https://***@github.com/x"),
        ("https://user:p@ss@host/path", "https://***@host/path"),
        ("https://user:p%40ss:w0rd@h/x and https://u:p/ss@h/x", "https://***@h/x and https://***@h/x"),
        ("redis://:pw123456@h", "redis://***@h"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic ***"),
        ("{'authorization': 'Token abcdef'}", "{'authorization': 'Token ***'}"),
        ("curl -H basic dXNlcjpwYXNzd29yZA==", "curl -H basic ***"),
        ("GET /api?first=1&token=abc&more=2", "GET /api?first=1&token=***&more=2"),
        ("?access_token=a.b.c#top", "?access_token=***"),
        ("with token=glpat-abcdefghijklmnop", "with token=***"),
        ("JMP_PASSPHRASE='hunter2hunter2'", "JMP_PASSPHRASE='***'"),
        ("ssh://git@host/repo and ssh://root@10.0.0.1", "ssh://git@host/repo and ssh://root@10.0.0.1"),
        ("http://host:8080/a@b and http://[::1]:80/c@d", "http://host:8080/a@b and http://[::1]:80/c@d"),
        ("client = Client(token=self.load_token(path))", "client = Client(token=self.load_token(path))"),
        ("token=None password= basic functionality, basic configuration", None),
        ("the bearer of news; authorization: granted", "the bearer of news; authorization: ***"),
    ],
)
def test_shape(text: str, shown: str | None) -> None:
    """What looks like a secret is masked; what only resembles one stays, and source lines above all."""
    assert safe(text) == (text if shown is None else shown)


SUITE = """
    import base64, html, json, logging, os, shlex, threading, unittest, warnings
    from urllib.parse import quote, quote_plus
    import pytest
    from pytest_jumpstarter.errors import DeviceError
    SECRET = os.environ["JMP_GRPC_PASSPHRASE"]
    FORMS = json.loads(os.environ["FORMS"])

    def test_before_any_device():
        print("WITHOUT DEVICE", FORMS)
        assert SECRET == "no device"
    def test_said(dut, console, record_property, record_xml_attribute):
        record_property("property", FORMS)
        record_xml_attribute("attribute", SECRET)
        for form in FORMS:
            print("PRINTED", form)
            logging.getLogger("driver").warning("LOGGED %r", {"p": form})
            warnings.warn(f"WARNED {form}")
        dut.power.on()
        console.expect("login: ")
        for form in FORMS[:3]:
            console.sendline(form)
        console.expect("never", timeout=1)
    def test_suite_property(record_testsuite_property):
        record_testsuite_property("suite", SECRET)
    def test_thread(dut):
        def fail(): raise RuntimeError("THREAD " + SECRET)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    @pytest.mark.parametrize("secret", [SECRET], ids=[SECRET])
    def test_id(dut, secret): assert 0
    def test_skipped(dut): pytest.skip("SKIPPED " + SECRET)
    @pytest.mark.xfail(reason="XFAILED " + SECRET)
    def test_xfailed(dut): assert 0
    def test_cut(dut):
        first = "https://lab/api?first=" + "a" * 90 + SECRET + "b" * 200
        second = "x" * 110 + SECRET + "c" * 140
        raise RuntimeError("cut")
    def test_subtests(dut, subtests):
        with subtests.test("SUBTEST " + SECRET, value=SECRET):
            print("IN SUBTEST " + SECRET)
            assert SECRET == "subtest"
    def test_device_error(dut):
        raise DeviceError("LOST " + SECRET)
"""
CONFTEST = """
    import os
    def pytest_jumpstarter_collect_evidence(folder):
        folder.add("own.txt", os.environ["FORMS"])
        folder.add("own.json", os.environ["FORMS"])
"""


@pytest.mark.parametrize("workers", [(), ("-n1", "-p", "no:rerunfailures")], ids=["", "xdist"])
def test_no_output_has_a_form(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    """Whatever says a secret in whatever form, no file and no terminal shows it."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", SECRET)
    monkeypatch.setenv("FORMS", json.dumps([form(SECRET) for form in FORMS.values()]))
    monkeypatch.setenv("BUILDKITE", "true")
    monkeypatch.setenv("BUILDKITE_BUILD_URL", f"https://me:{quote(SECRET)}@ci/1")
    suite.makeconftest(CONFTEST)
    suite.makepyfile(SUITE)
    files = ["--jmp-report=run.json", "--jmp-report=run.html", "--jmp-report=run.md", "--junitxml=junit.xml"]
    files += ["-p", "no:cacheprovider", "--log-file=log.txt", "--jmp-artifacts=out", "--jmp-history=history.db"]
    shown = ["-v", "--showlocals", "--log-cli-level=INFO", "-rA", "--jmp-order=off"]
    result = suite.runpytest_subprocess(*files, *shown, *workers)
    paths = [
        path for path in suite.path.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".ini", ".css")
    ]
    found = {str(path.relative_to(suite.path)): path.read_text() for path in paths if path.name != "history.db"}
    found["history.db"] = dumped(suite.path / "history.db")
    found["run.html"] = unpacked(found["run.html"])
    found |= {f"name of {name}": name for name in found}
    found["terminal"] = "\n".join([*result.outlines, *result.errlines])
    assert {name: traces(text)[:3] for name, text in found.items() if traces(text)} == {}
    for words in ("WITHOUT DEVICE", "PRINTED", "LOGGED", "WARNED", "THREAD", "SUBTEST", "LOST"):
        assert words in found["terminal"], words
    assert json.loads(next(text for name, text in found.items() if name.endswith("own.json")))
    jsonschema.validate(json.loads(found["run.json"]), SCHEMA)


def test_a_report_is_not_damaged(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases that are a number, an outcome and a key of the format leave the JSON file as its schema says."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "1795")
    for secret in ("passed", "start"):
        learn(secret)
    suite.makepyfile("def test_it(dut): pass")
    assert suite.runpytest("--jmp-report=run.json", "--junitxml=junit.xml").ret == pytest.ExitCode.OK
    data: Any = json.loads((suite.path / "run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert [test["outcome"] for test in data["tests"]] == ["passed"]
    assert data["run"]["start"] <= data["leases"][0]["asked"] <= data["run"]["stop"]
