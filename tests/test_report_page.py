"""The page of `--jmp-report run.html`, opened in a real browser, and the Markdown beside it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from pytest_jumpstarter.report.page import page
from pytest_jumpstarter.report.run_data import RunData

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
BARS = "document.querySelectorAll('.rows rect').length"
LOAD = "const [e] = performance.getEntriesByType('navigation'); return e.loadEventEnd - e.startTime"
CUT_TICKS = """
const edge = document.querySelector(".axis").getBoundingClientRect().right + 1;
return [...document.querySelectorAll(".axis span")].filter(s => s.getBoundingClientRect().right > edge).length"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium with a profile of its own."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


def resize(browser: webdriver.Chrome, width: int) -> None:
    """Make the window as wide as a desktop's or a phone's."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def synthetic(tests: int, boards: int) -> RunData:
    """Return the data of a long run that never was."""
    return cast("RunData", _made_up(tests, boards))  # dictionaries that a schema checks


def _made_up(tests: int, boards: int) -> dict[str, Any]:
    """Return what a run of so many tests on so many boards would have written."""
    start, each = 1_800_000_000.0, 6.0
    leases: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    for board in range(boards):
        name, key = f"bench-{board:02}.rack-{board % 4}", f"gw{board}-1"
        lease = {"key": key, "worker": f"gw{board}", "role": "dut", "lease": f"pj-1-gw{board}-1", "exporter": name}
        ready = start + 5 + board
        labels = {"board": "rpi4", "rack": str(board % 4)}
        ended = ready + 20 + tests // boards * each
        moments = {"asked": start, "ready": ready, "connected": ready + 2, "prepared": ready + 9, "released": ended}
        leases.append(lease | moments | {"labels": labels})
        device = {"role": "dut", "exporter": name, "labels": labels, "lease": lease["lease"], "key": key}
        for number in range(tests // boards):
            begin, is_bad = ready + 10 + number * each, number % 25 == 7
            artifacts = {"root": "art", "folder": f"test {number}", "files": ["console.log"]}
            spans = zip(("setup", "call", "teardown"), (0, 1, 5), (1, 5, 5.5), strict=True)
            done.append(
                {
                    "id": f"tests/test_{board}.py::test_something_of_the_product[{number}-<b>&amp;]",
                    "worker": f"gw{board}",
                    "attempt": 1,
                    "outcome": "failed" if is_bad else "passed",
                    "reason": "AssertionError: <script>alert(1)</script>" if is_bad else "",
                    "phases": {name: {"start": begin + a, "stop": begin + b} for name, a, b in spans},
                    "devices": [device | {"wait_seconds": 0.0, "hold_seconds": 3.0}],
                    "device_error": None,
                    "sections": {"console of dut": "[    0.0] booting\n" * 200} if is_bad else {},
                    "artifacts": artifacts if is_bad else None,
                }
            )
    exporters = [
        {
            "exporter": lease["exporter"],
            "labels": lease["labels"],
            "tests": tests // boards,
            "device_errors": 0,
            "queued_seconds": 5.0,
            "held_seconds": 600.0,
            "busy_seconds": 550.0,
            "busy_percent": 92,
        }
        for lease in leases
    ]
    return {
        "format": "pytest-jumpstarter-run",
        "version": 1,
        "run": {
            "start": start,
            "stop": max(lease["released"] for lease in leases) + 3,
            "exit_code": 1,
            "versions": {"plugin_version": "0.1.0"},
            "origin": {"ci": "github", "commit": "c0ffee", "url": "javascript:alert(1)"},
        },
        "summary": {
            "tests": {"passed": tests - tests // 25, "failed": tests // 25},
            "device_errors": 0,
            "queued_seconds": 250.0,
            "held_seconds": 30000.0,
            "busy_seconds": 27000.0,
        },
        "exporters": exporters,
        "leases": leases,
        "tests": done,
    }


def no_errors(browser: webdriver.Chrome) -> bool:
    """Tell whether the browser's console is empty."""
    return [entry["message"] for entry in browser.get_log("browser")] == []  # type: ignore[no-untyped-call]


def hovered(browser: webdriver.Chrome, kind: str) -> str:
    """Point at the first bar of a kind, and return what is shown then."""
    bar = browser.find_element(By.CSS_SELECTOR, f".rows rect.{kind}")
    ActionChains(browser).move_to_element(bar).perform()
    return browser.find_element(By.ID, "hover").text


def test_page_of_four_workers(suite: pytest.Pytester, browser: webdriver.Chrome) -> None:
    """The page of a real run of four workers on two boards shows each lease and each phase that used the board."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        board = device_fixture(selector="board=virtual", scope="module")
        """
    )
    for name in ("one", "two", "three", "four"):
        suite.makepyfile(
            **{f"test_{name}": f"def test_on(board): board.power.cycle()\ndef test_wrong(board): assert {name!r} == 0"}
        )
    outcome = suite.runpytest_subprocess("-n4", "--dist=loadfile", "--jmp-report=run.html", "--jmp-report=run.md")
    outcome.assert_outcomes(passed=4, failed=4)
    browser.get(suite.path.joinpath("run.html").as_uri())
    assert no_errors(browser)
    bars = {
        kind: len(browser.find_elements(By.CSS_SELECTOR, f".rows rect.{kind}"))
        for kind in ("queue", "idle", "connect", "test", "wrong")
    }
    assert bars.pop("wrong") >= 4
    assert bars == {"queue": 4, "idle": 4, "connect": 4, "test": 8}
    assert re.search(r"test: test_\w+\.py::test_on \(passed, gw\d\)\n[\d.]+s from \+", hovered(browser, "test"))
    assert len(browser.find_elements(By.CSS_SELECTOR, "details .bad")) == 4
    markdown = suite.path.joinpath("run.md").read_text()
    assert re.search(r"^\| board-1 \| \d \| 0 \|", markdown, re.MULTILINE)
    assert markdown.count("| failed |") == 4


def test_page_of_5000_tests(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """The page of 5,000 tests on 50 boards is below 20 MB, there within 3 s (twice that here), and fits a phone."""
    file = tmp_path / "run.html"
    file.write_text(page(synthetic(5000, 50), file), encoding="utf-8")
    assert file.stat().st_size < 20_000_000
    start = time.monotonic()
    browser.get(file.as_uri())
    assert max(browser.execute_script(LOAD) / 1000, time.monotonic() - start) < 6
    assert no_errors(browser)
    assert browser.execute_script(f"return {BARS}") == 3 * 50 + 3 * 5000
    assert "test_something_of_the_product[0-<b>&amp;]" in hovered(browser, "test")
    assert browser.find_elements(By.CSS_SELECTOR, "a[href^=javascript]") == []
    worker_end = browser.find_element(By.CSS_SELECTOR, "details a")
    assert str(worker_end.get_dom_attribute("href")).endswith("art/test%207/console.log")
    for width in (1280, 400):
        resize(browser, width)
        assert browser.execute_script(OVERFLOW) <= 0, f"at {width} px the page is wider than the window"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_last_time_on_the_axis_is_whole(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """A time that stands at the right end of the axis is written to the left of its mark, on a phone too."""
    data, file = synthetic(36, 1), tmp_path / "run.html"
    data["run"]["stop"] = data["run"]["start"] + 241  # a mark each minute: the last one is a second before the end
    file.write_text(page(data, file))
    browser.get(file.as_uri())
    for width in (1280, 400):
        resize(browser, width)
        assert browser.execute_script(CUT_TICKS) == 0, f"at {width} px a time on the axis is cut off"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_markdown_holds_text_as_text(tmp_path: Path) -> None:
    """What tests and boards say is nothing but text in a Markdown table."""
    data = synthetic(100, 2)
    data["tests"][7]["reason"] = "a | b\n`c` <img src=x> [d](e)"
    rows = page(data, tmp_path / "run.md").splitlines()
    assert any(row.endswith("| a &#124; b &#96;c&#96; &#60;img src=x&#62; &#91;d&#93;(e) |") for row in rows)
