"""The page of a report for all who read it: by keyboard, zoomed, in narrow windows, in any colours, and on paper."""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from typing import Any

import pytest
from made_up_runs import made_up, mixed, with_history, with_states
from report_browser import Reader, contrast
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What people read and that does not end within the window; a box that scrolls is reached by its own scroll bar.
CUT = """
return [...document.querySelectorAll("body *")].filter((each) => {
  const {right, left, width, height} = each.getBoundingClientRect();
  return width && height && (right > innerWidth + 1 || left < -1) && !each.closest("pre, svg, .ticks, #cursor");
}).map((each) => `${each.tagName} ${each.className} ${each.textContent.slice(0, 40)}`)"""


def every(data: Any) -> Any:
    """Add all that a page can have to the data of a run, with words without a space that are too long for a line."""
    long = "a-very-long-name-without-any-space_" * 8
    data["run"]["problems"] = [
        {"kind": "collection error", "where": f"tests/{long}.py", "reason": long, "text": f"E  {long}\n" * 3}
    ] * 7
    data["run"]["never_began"] = [f"tests/{long}.py::test_later"] * 3
    data["run"] |= {"ended_by": long, "meaning": long}
    data["leases"][0] |= {"is_adopted": True, "hook_failures": [f"afterLease hook failed: {long}"], "lease": long}
    data["exporters"][1]["exporter"] = data["leases"][1]["exporter"] = long
    for test in data["tests"][:20]:
        test["id"] = f"tests/test_{long}.py::{long}[{test['id']}]"
        test["reason"] = test["reason"] and long
        test["devices"] = [{**test["devices"][0], "role": long[:70], "labels": {long: long}}]
        test["properties"] = [{"name": long, "value": long}]
    return with_states(with_history(data))


@pytest.mark.parametrize("width", [1280, 400, 320])
def test_no_violation_of_wcag(reader: Reader, width: int) -> None:
    """axe-core finds nothing and nothing is cut, in light and dark, at first and with all open that can be opened."""
    reader.emulate(width, "light")
    reader.open(every(made_up(48, 4, mixed)))
    assert reader.violations() == []
    reader.keys("j")
    reader.until("document.querySelector('.evidence pre')")
    reader.click("button.outcome", "failed")
    reader.js("for (const each of document.querySelectorAll('details')) each.open = true")
    reader.until("document.querySelectorAll('#failures pre').length >= 12")
    reader.until("document.querySelectorAll('#leases tbody tr').length >= 4")
    reader.js("document.getElementById('cursor').focus()")
    for scheme in ("light", "dark"):
        reader.emulate(width, scheme)
        assert reader.violations() == []
    assert reader.js(OVERFLOW) <= 0, f"at {width} px the page is wider than the window"
    assert reader.js(CUT) == []


def test_walk_with_the_tab_key(reader: Reader) -> None:
    """The tab key leads to every control; each that has the focus is in view, not covered, and has a visible ring."""
    reader.open(made_up(24, 2, mixed))
    forth = list(walk(reader))
    assert {"search", "Next failure j", "cursor", "sort-health", "Zoom in"} <= set(forth)
    assert sum("test_something" in name or "failed" in name for name in forth) >= 4
    back = walk(reader, held=Keys.SHIFT)
    assert [next(back) for _ in forth] == forth[::-1]


def walk(reader: Reader, *, held: str = "") -> Any:
    """Press the tab key until the focus leaves the page, and yield the name of each element that had it."""
    for _ in range(200):
        reader.keys(Keys.TAB, held=held)
        if reader.focused()["tag"] == "BODY":
            return
        yield check_focus(reader)
    pytest.fail("the walk does not end")


def check_focus(reader: Reader) -> str:
    """Check that people see where the focus is, and return the name of its element."""
    focused = reader.focused()
    assert focused["isSeen"], focused
    assert focused["isOnTop"], focused
    assert focused["hasRing"], focused
    back = reader.js("return getComputedStyle(document.body).backgroundColor")
    assert contrast(focused["ring"], back) >= 3, focused
    return str(focused["name"])


def test_a_whole_visit_by_keyboard(reader: Reader) -> None:
    """Search, filters, failures, consoles, timeline, tables and links are used, and left again, by keys alone."""
    reader.emulate(1280, "dark")
    reader.open(made_up(120, 6, mixed))

    def go(name: str, *keys: str, held: str = "") -> None:
        for _ in range(150):
            reader.keys(Keys.TAB, held=held)
            if reader.focused()["tag"] != "BODY" and name in check_focus(reader):  # past the end the walk begins anew
                reader.keys(*keys)
                return
        pytest.fail(f"no way to {name}")

    def matching(number: int) -> None:
        reader.until(f"document.getElementById('matching').textContent.startsWith('{number} ')")

    go("search", "test_3")
    matching(20)
    go("6 failed", Keys.SPACE)
    matching(1)
    go("clear", Keys.ENTER)
    matching(120)
    go("choice-Board", "bench-02")
    matching(20)
    go("search", held=Keys.SHIFT)
    go("clear", Keys.ENTER)
    go("choice-Group-by", "b")
    assert len(reader.all("#failures .group")) == 6
    go("tests/test_0", Keys.ENTER)
    reader.until("document.querySelectorAll('#failures .evidence pre').length >= 3")
    go("console of")
    reader.until("document.activeElement.scrollTop === 0", key=Keys.HOME)
    reader.until("document.activeElement.scrollTop > 100", key=Keys.END)
    go("Show in the timeline", Keys.ENTER, held=Keys.SHIFT)
    check_focus(reader)
    bar = reader.one("#chosen")
    reader.keys(Keys.ARROW_RIGHT)
    assert reader.one("#chosen") != bar
    reader.keys(Keys.ARROW_LEFT, Keys.ENTER)
    assert reader.one("details.test[open] .name") == bar.partition("\n")[0]
    check_focus(reader)
    reader.keys(Keys.ENTER)
    assert reader.all("details.test[open]") == []
    go("Whole run", Keys.ENTER)
    reader.until("!location.hash.includes('from=')")
    go("As a table", Keys.ENTER)
    reader.until("document.querySelectorAll('#leases tbody tr').length === 6")
    go("sort-tests", Keys.ENTER)
    assert reader.js("return document.querySelector('th[aria-sort] button').id") == "sort-tests"
    go("bench-05", Keys.ENTER)
    matching(20)
    go("tests/test_5", Keys.ENTER)
    reader.until("document.querySelectorAll('details.test[open]').length === 1")
    check_focus(reader)
    go("search", held=Keys.SHIFT)


SPAN = (
    "(new URLSearchParams(location.hash.slice(1)).get('to') - new URLSearchParams(location.hash.slice(1)).get('from'))"
)


def window(reader: Reader) -> tuple[int, int]:
    """Return the moments between which the timeline is shown."""
    found = re.search(r"from=(\d+)&to=(\d+)", reader.browser.current_url)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def test_zoom_by_wheel(reader: Reader) -> None:
    """Ctrl and wheel zoom the timeline about the pointer, not the page; a wheel to the side moves it."""
    data = made_up(120, 6, mixed)
    reader.open(data)
    length = round(1000 * (data["run"]["stop"] - data["run"]["start"]))
    lane = reader.browser.find_element(By.CSS_SELECTOR, ".lane")
    reader.js("arguments[0].scrollIntoView({block: 'center'})", lane)
    start = reader.js("return [devicePixelRatio, scrollY]")

    def wheel(x: int, y: int, held: str = "") -> None:
        chain = ActionChains(reader.browser)
        if held:
            chain.key_down(held)
        chain.scroll_from_origin(ScrollOrigin.from_element(lane, -lane.rect["width"] // 4, 0), x, y)
        if held:
            chain.key_up(held)
        chain.perform()

    wheel(0, -120, Keys.CONTROL)
    reader.wait_for_fragment("from=", is_all=False)
    begin, end = window(reader)
    assert (end - begin) / length == pytest.approx(0.7, abs=0.01)
    assert begin + (end - begin) / 4 == pytest.approx(length / 4, rel=0.01), "what is below the pointer stays there"
    drawn = len(reader.all(".lane rect.teardown"))
    for _ in range(3):
        wheel(0, -120, Keys.CONTROL)
    reader.until(f"{SPAN} < {0.25 * length}")
    assert len(reader.all(".lane rect.teardown")) < drawn / 2, "fewer tests are in view"
    assert reader.js("return [devicePixelRatio, scrollY]") == start
    begin, end = window(reader)
    assert (end - begin) / length == pytest.approx(0.7**4, abs=0.01)
    wheel(200, 0)
    reader.until(f"location.hash.includes('from=') && !location.hash.includes('from={begin}&')")
    later, end_later = window(reader)
    assert later > begin
    assert end_later - later == pytest.approx(end - begin, abs=2)
    for _ in range(8):
        wheel(0, 120, Keys.CONTROL)
    reader.wait_for_fragment("")
    wheel(0, 120)
    reader.until(f"scrollY > {start[1]}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_phases_stand_out(reader: Reader, width: int, scheme: str) -> None:
    """From left to right in a row, each colour has a contrast of 3 to 1 to the next, in pixels as they are seen."""
    reader.emulate(width, scheme)
    reader.open(with_states(made_up(24, 2, mixed)))
    reader.js("document.querySelector('.chart').scrollIntoView()")
    reader.until("document.querySelectorAll('.lane rect').length > 20")
    for kind in ("queue", "connect", "test", "held", "failed", "fault", "reach", "state"):
        assert reader.all(f".lane rect.{kind}"), kind
    if width > 1000:
        assert reader.all(".lane rect.setup")
        assert reader.all(".lane rect.teardown")
    faint = []
    for row in reader.colours(".lane svg", 21):  # below the words of states
        seen = [colour for colour, _ in groupby(row)]
        assert len(set(seen)) >= 4, "nothing is drawn there"
        faint += [pair for pair in pairwise(seen) if contrast(*pair) < 3]
    assert faint == []


VISIBLE = """
return [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility())
  .map((each) => each.textContent.trim())"""
NOT_WHOLE = """
return [...document.querySelectorAll("pre")].filter((each) => each.checkVisibility() &&
  (each.scrollHeight > each.clientHeight + 1 || each.scrollWidth > each.clientWidth + 1))
  .map((each) => each.textContent)"""
COUNT = "addEventListener('beforeprint', () => { globalThis.printed = document.querySelectorAll('#paper pre').length })"


def test_print(reader: Reader) -> None:
    """On paper all failures are in full, with tracebacks and consoles, in light colours, and no controls."""
    data = every(made_up(80, 8, mixed))
    reader.emulate(1280, "dark")
    reader.open(data, "#q=needle")  # which matches when the texts are unpacked
    reader.until("document.getElementById('matching').textContent.startsWith('16 ')")
    reader.click("#clear")
    reader.keys("j")
    reader.js(COUNT)
    before = reader.all("details[open] summary")
    reader.browser.print_page()
    assert reader.js("return printed") == 3 * 16
    assert (reader.all("#paper"), reader.all("details[open] summary")) == ([], before), "it is as before"
    reader.js("dispatchEvent(new Event('beforeprint'))")
    reader.emulate(700, "dark", "print")
    assert reader.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert reader.js(VISIBLE, "button:not(thead button), input, select, #bar, #tools, #failures, #cursor") == []
    assert reader.js("return [...document.querySelectorAll('.lane svg')].filter((svg) => !svg.firstChild).length") == 0
    texts = reader.all("#paper pre")
    for test in data["tests"]:
        if test["outcome"] in ("failed", "device error"):
            assert {text.strip() for text in test["sections"].values()} <= set(texts)
    assert len(reader.js(VISIBLE, "#paper pre")) == len(texts)
    assert len(reader.js(VISIBLE, "#problems pre, #never-began li")) == 7 + 3
    assert reader.js(NOT_WHOLE) == []
    assert reader.js(CUT) == []
