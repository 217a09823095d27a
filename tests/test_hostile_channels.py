"""Drawn hostile words through real channels: console, driver, exporter log, hook, test names; safe in all outputs."""

from __future__ import annotations

import html
import json
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import VIRTUAL_BOARD, exporter_document, serve_test_drivers
from test_foreign_words import COUNT, SEED, faults, hostile, texts_of
from unpacked import dumped, unpacked

from pytest_jumpstarter.lab import Lab

pytestmark = pytest.mark.usefixtures("all_plugins")

NUMBER = COUNT // 12
"""How many texts are drawn, of twelve words each; a test has one of them."""

FILES = [*(f"--jmp-report=run.{suffix}" for suffix in ("json", "html", "md")), "--junitxml=junit.xml"]
FILES += ["--jmp-metrics=metrics.txt", "--html=page.html", "--self-contained-html", "--jmp-history=history.db"]
SHOWN = ["-rA", "--log-file=log.txt", "--jmp-artifacts=out", "-p", "no:cacheprovider"]
TELLING = (
    "terminal", "log.txt", "metrics.txt", "history.db", "run.json", "texts of run.html", "junit.xml", "page.html",
)  # fmt: skip
HOOK = """\
hooks:
  beforeLease:
    script: "cat {file}; cat {file} >&2; {end}"
    timeout: 60
    onFailure: endLease
"""
CONFTEST = """
    from pytest_jumpstarter import device_fixture
    broken = device_fixture(selector="board=broken")
"""
SUITE = """
    import json, pathlib
    import pytest
    TEXTS = json.loads(pathlib.Path("texts").read_text())
    PRINTS = pathlib.Path("prints").exists()

    @pytest.fixture(scope="session")
    def booted(dut):
        dut.power.on()
        dut.console().expect("login: ")

    @pytest.mark.parametrize("text", TEXTS, ids=[text.replace("/", "") for text in TEXTS])
    def test_said(booted, dut, console, record_metric, record_property, text):
        for line in text.split("\\n"):
            console.sendline(line)
        console.expect("end")
        record_metric("size", len(text), unit="B")
        record_property("text", text)
        dut.saying.call("log", text)
        if PRINTS:
            print(text)
        dut.saying.call("fail", text)
    def test_hook(broken): pass
"""


def drawn() -> list[str]:
    """Return texts as the lab's protocol can carry them, each with a plain beginning and end."""
    source = random.Random(SEED)
    texts = [f"begin{number} {hostile(source)}\nend" for number in range(NUMBER)]
    return [text.encode("utf-8", "replace").decode() for text in texts]


@pytest.fixture(scope="module")
def hostile_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve a board whose driver repeats what it is told, and one whose hook fails; both hooks print all texts."""
    folder = tmp_path_factory.mktemp("lab")
    (words := folder / "words").write_text("\n".join(drawn()) + "\n")
    saying = "  saying: {type: drivers_for_faults.Saying}\n"
    documents = [
        exporter_document("board-1", "board: hostile", VIRTUAL_BOARD + saying, HOOK.format(file=words, end="true")),
        exporter_document("board-2", "board: broken", VIRTUAL_BOARD, HOOK.format(file=words, end="false")),
    ]
    with serve_test_drivers(folder, *documents) as lab:
        yield lab


def outputs(folder: Path, result: pytest.RunResult) -> dict[str, str]:
    """Return all that a run has shown and written, without the markup of each format."""
    found = {name: (folder / name).read_text() for name in ("run.md", "log.txt", "metrics.txt")}
    for path in folder.rglob("out/*/*"):
        if path.is_file() and path.name != "console.log":  # which has the bytes of the board
            text = path.read_text()
            found[str(path.relative_to(folder))] = (
                "\n".join(text for line in text.splitlines() for text in texts_of(json.loads(line)))
                if path.suffix == ".jsonl"
                else text
            )
    found["terminal"] = "\n".join([*result.outlines, *result.errlines])
    found["history.db"] = dumped(folder / "history.db")
    found["run.json"] = "\n".join(texts_of(json.loads((folder / "run.json").read_text())))
    page = (folder / "run.html").read_text()
    found["run.html"] = re.sub("<style>.*?</style>|<script.*?</script>", "", page, flags=re.DOTALL)
    found["texts of run.html"] = unpacked(page).removeprefix(page)
    elements = ET.parse(folder / "junit.xml").iter()
    texts = [text for each in elements for text in (each.text or "", *each.attrib.values())]
    attachments = re.compile(rf"\[\[ATTACHMENT\|{re.escape(str(folder))}/out/")
    found["junit.xml"] = attachments.sub("", "\n".join(texts))
    blob = re.search(r'data-jsonblob="(.*?)"></div>', (folder / "page.html").read_text(), re.DOTALL)
    assert blob is not None
    rows = json.loads(html.unescape(blob[1]))["tests"].values()  # its keys are not shown
    found["page.html"] = "\n".join(texts_of(list(rows)))
    return found


@pytest.mark.parametrize("live", [True, False], ids=["live log", "worker"])
def test_no_output_has_drawn_words(pytester: pytest.Pytester, hostile_lab: Lab, live: bool) -> None:
    """
    Each text is in each output, and no control, no command to a CI system and no markup of it.

    With a live log the tests do not print: pytest stops its capture while it shows a record, so what a test prints at
    that moment goes to the terminal as it is, whoever logs.
    """
    if not live:
        (pytester.path / "prints").touch()
    (pytester.path / "texts").write_text(json.dumps(drawn()))
    pytester.makeini(f"[pytest]\njmp_client = {hostile_lab.client_config}\njmp_selector = board=hostile\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess(*FILES, *SHOWN, "--log-cli-level=INFO" if live else "-n1")
    found = outputs(pytester.path, result)
    assert {name: faults(text)[:5] for name, text in found.items() if faults(text)} == {}
    for name in ("run.md", "page.html"):
        assert [words for words in ("<img", "<script>alert") if words in found[name]] == [], name
    assert "<img" not in (pytester.path / "run.html").read_text()
    last = f"begin{NUMBER - 1} "
    assert [name for name in TELLING if last not in found[name]] == []
    data = json.loads((pytester.path / "run.json").read_text())
    outcomes = [test["outcome"] for test in data["tests"]]
    assert outcomes.count("failed") == NUMBER
    assert outcomes.count("device error") == 1, "of the hook"
    sections = {name for test in data["tests"] for name, text in test["sections"].items() if last in text}
    assert {"console of dut (board-1)", "exporter log of dut (board-1)"} <= sections
    assert ("Captured stdout call" in sections) is not live
    (hook,) = [test["device_error"] for test in data["tests"] if test["outcome"] == "device error"]
    assert last in hook["reason"]
