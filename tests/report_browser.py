"""A headless Chromium, in which tests open the page of a report."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
# The element with the focus: whether people see it, and a ring around it.
FOCUSED = """
const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
const top = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(box.height, 20) / 2);
return {name: it.id || it.ariaLabel || it.textContent.trim().slice(0, 40), tag: it.tagName,
  isSeen: box.bottom > 0 && box.top < innerHeight,
  isOnTop: it.id === "cursor" || top === null || it.contains(top) || top.contains(it),
  hasRing: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2, ring: style.outlineColor}"""
LOAD = "const [e] = performance.getEntriesByType('navigation'); return e.loadEventEnd - e.startTime"
_BOX = """
const {x, y, width} = document.querySelectorAll(arguments[0])[arguments[1]].getBoundingClientRect();
return {x: Math.round(x + scrollX), y: Math.round(y + scrollY), width: Math.round(width)}"""
_PIXELS = """
const done = arguments[arguments.length - 1], picture = new Image(), canvas = document.createElement("canvas");
picture.onload = () => {
  Object.assign(canvas, {width: picture.width, height: 1});
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const {data} = canvas.getContext("2d").getImageData(0, 0, picture.width, 1);
  done(Array.from({length: picture.width}, (_, at) => `rgb(${data.slice(4 * at, 4 * at + 3).join(", ")})`));
};
picture.src = `data:image/png;base64,${arguments[0]}`;"""
# The rules of WCAG 2.2, levels A and AA, and what else axe-core knows to be good practice.
AXE = """
const done = arguments[arguments.length - 1];
const options = {resultTypes: ["violations"], rules: {"target-size": {enabled: true}}};
axe.run(document, options).then((found) => done(found.violations.map(
  (each) => `${each.id}: ${each.help}: ${each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(" | ")}`
)), (error) => done([String(error)]));"""


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser with a profile of its own; the test is skipped if there is none."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no browser: install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


class Reader:
    """Opens pages of reports, and does there what people do."""

    def __init__(self, browser: webdriver.Chrome, folder: Path) -> None:
        self.browser = browser
        self._file = folder / "run.html"

    def open(self, data: RunData, fragment: str = "") -> None:
        """Write the page of a run, and open it."""
        self._file.write_text(page(data, self._file), encoding="utf-8", errors="replace")
        self.open_file(self._file, fragment)

    def open_file(self, file: Path, fragment: str = "") -> None:
        """Open a page that is there, at the start of a new document."""
        self.browser.get("about:blank")
        self.browser.get(file.as_uri() + fragment)

    @property
    def size(self) -> int:
        """The size of the page in bytes."""
        return self._file.stat().st_size

    @property
    def load_seconds(self) -> float:
        """How long the browser took until the page was there, with its script."""
        return float(self.js(LOAD)) / 1000

    def wait_for_fragment(self, words: str, *, is_all: bool = True) -> None:
        """Wait until the fragment of the URL is this text, or contains it; it follows after a pause."""
        shown = "decodeURIComponent(location.hash.replaceAll('+', ' '))"
        self.until(f"{shown} === {json.dumps(words)}" if is_all else f"{shown}.includes({json.dumps(words)})")

    def js(self, script: str, *args: Any) -> Any:
        """Run a script on the page, and return what it returns."""
        return self.browser.execute_script(script, *args)

    def all(self, selector: str) -> list[str]:
        """Return the text of each element that matches."""
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent.trim())"
        return list(self.js(script, selector))

    def one(self, selector: str) -> str:
        """Return the text of the only element that matches."""
        [found] = self.all(selector)
        return found

    def click(self, selector: str, words: str = "") -> None:
        """Click the first element that matches and contains these words, once it is there."""
        matches, part = f"[...document.querySelectorAll({json.dumps(selector)})]", json.dumps(words)
        found = f"{matches}.find((each) => each.textContent.includes({part}))"
        self.until(found)
        self.js(f"return {found}").click()

    def keys(self, *keys: str, held: str = "") -> None:
        """Press keys, one after the other, where the focus is, while `held` is held down."""
        chain = ActionChains(self.browser)
        for key in held:
            chain.key_down(key)
        chain.send_keys(*keys)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def focused(self) -> dict[str, Any]:
        """Return what is seen of the element with the focus."""
        return dict(self.js(FOCUSED))

    def colours(self, selector: str, y: int) -> list[list[str]]:
        """Return for each element that matches the colours from left to right, at a height of it, as they are seen."""
        found = []
        for number in range(len(self.all(selector))):
            box = self.js(_BOX, selector, number)
            clip = {"x": box["x"], "y": box["y"] + y, "width": box["width"], "height": 1, "scale": 1}
            picture = self.browser.execute_cdp_cmd(
                "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
            )
            found.append(picture["data"])
        self.browser.get("about:blank")  # which, unlike the page, may decode a picture
        return [list(self.browser.execute_async_script(_PIXELS, each)) for each in found]

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.browser.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def until(self, script: str, *, key: str = "") -> None:
        """Wait until an expression on the page is true; press a key each second: an animation may swallow it."""
        deadline, pressed = time.monotonic() + 10, -1.0
        while not self.js(f"return Boolean({script})"):
            if key and time.monotonic() - pressed > 1:
                self.keys(key)
                pressed = time.monotonic()
            if time.monotonic() > deadline:
                pytest.fail(f"not so after 10s: {script}")
            time.sleep(0.02)

    def emulate(self, width: int = 0, scheme: str = "", media: str = "") -> None:
        """Make the window as wide as a desktop's or a phone's, light or dark, or as for a print; nothing: as before."""
        if width:
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        else:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def violations(self) -> list[str]:
        """Return what axe-core says about the page as it is."""
        self.browser.execute_script(_axe())
        return list(self.browser.execute_async_script(AXE))

    def errors(self) -> list[str]:
        """Return what is on the browser's console."""
        return [entry["message"] for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]


def luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _axe() -> str:
    """Return the source of axe-core, from the only package for this Python that has a version for WCAG 2.2."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no axe-core: install axe-playwright-python")
    return Path(found.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")
