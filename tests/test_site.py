"""The site that Sphinx builds of `docs/`: no warning, everything in the reference, a search that finds things."""

from __future__ import annotations

import html
import inspect
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_browser import Reader, chromium
from selenium.webdriver.common.keys import Keys

import pytest_jumpstarter
from pytest_jumpstarter import Console, Device, LeaseRequest, errors, hooks
from pytest_jumpstarter.client import v1
from pytest_jumpstarter.client.v1 import Client, Response
from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout
from pytest_jumpstarter.options import OPTIONS
from pytest_jumpstarter.report.exit_codes import EXIT_CODES
from pytest_jumpstarter.running.waits import WAITS

pytest.importorskip("sphinx", reason="no Sphinx: install the extra docs")
ROOT = Path(__file__).parent.parent
# Members that the parts of this package call on each other.
INTERNAL = {
    "close", "error", "is_open", "leaves_open", "not_renewed", "renew", "renew_connection", "source", "supports",
}  # fmt: skip


class Site:
    """
    The site, as files.

    Attributes:
        folder: Where it is.
        objects: The name and kind, such as `std:cmdoption`, of all that other pages can refer to; with its page.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        packed = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
        rows = (line.rsplit(" ", 4) for line in zlib.decompress(packed).decode().splitlines())
        self.objects = {(name, kind): uri.partition("#")[0] for name, kind, _, uri, _ in rows}

    def names(self, kind: str) -> set[str]:
        """Return the names of a kind, such as `std:fixture`."""
        return {name for name, each in self.objects if each == kind}

    def text(self, page: str) -> str:
        """Return the text of a page, without its markup."""
        found = re.sub(r"<[^>]*>", "", (self.folder / f"{page}.html").read_text())
        return " ".join(html.unescape(found).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return the site, built as CI does it; a warning is an error, and so is a link inside that leads nowhere."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(ROOT / "docs"), str(folder)]
    built = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert built.returncode == 0, built.stderr
    return Site(folder)


def test_options(site: Site, pytester: pytest.Pytester) -> None:
    """Every option is in the reference, with its ini name, its variable and its default; and no other is."""
    flags = {name for name in site.names("std:cmdoption") if name.startswith("--jmp-")}
    assert flags == set(re.findall(r"^  (--jmp-[a-z-]+)", pytester.runpytest("--help").stdout.str(), re.MULTILINE))
    assert flags >= {option.flag for option in OPTIONS}
    text = site.text("reference/options")
    for option in OPTIONS:
        entry = text.partition(f"{option.flag} {option.metavar}".strip())[2].partition(" --jmp-")[0]
        assert all(word in text for word in (option.ini, option.variable, option.default or "")), entry


def test_dashes_of_options(site: Site) -> None:
    """Two dashes stay two; options that the help of another one names are shown as code."""
    pages = [page.read_text() for page in site.folder.rglob("*.html")]
    assert [each for page in pages for each in re.findall(r"\u2013(?:jmp|init|check)[^<]*", page)] == []
    named = re.sub(r"<[^>]*>", "\0", (site.folder / "reference/options.html").read_text())
    assert re.search(r"exporters that are named \(\0+--jmp-exporter\0+\) even if", named)


def test_options_of_the_lab(site: Site) -> None:
    """Every option of the lab's command line that is meant for people is in the reference."""
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_jumpstarter.lab", "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = set(re.findall(r"(--[a-z-]+)", shown)) - {"--help"}
    assert flags
    assert {f"pytest_jumpstarter.lab.{flag}" for flag in flags} <= site.names("std:cmdoption")


def test_fixtures_and_markers(site: Site, pytester: pytest.Pytester) -> None:
    """Every fixture and marker is in the reference."""
    shown = "\n".join(pytester.runpytest("--fixtures").outlines)
    section = shown.split("pytest_jumpstarter.fixtures ---")[1].split("\n---")[0]
    assert site.names("std:fixture") == set(re.findall(r"^(\w+)\b.* -- ", section, re.MULTILINE))
    marks = "\n".join(pytester.runpytest("--markers").outlines)
    assert site.names("std:marker") == set(re.findall(r"^@pytest\.mark\.(jumpstarter\w*)", marks, re.MULTILINE))
    assert "@pytest.mark.jumpstarter(requires=[DRIVER, ...], labels=SELECTOR, spoils=True|False): what the" in marks


def test_hooks(site: Site) -> None:
    """Every hook is in the reference with its arguments, twice: in the table, and with its docstring."""
    specs = [name for name in vars(hooks) if name.startswith("pytest_")]
    text = site.text("reference/hooks")
    for name in specs:
        assert f"pytest_jumpstarter.hooks.{name}" in site.names("py:function")
        assert f"{name}({', '.join(inspect.signature(getattr(hooks, name)).parameters)})" in text
    assert specs


def test_errors(site: Site) -> None:
    """Every class of error is in the reference."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]
    kinds = [kind for kind in kinds if issubclass(kind, BaseException)]
    assert len(kinds) > 30
    names = {f"{errors.__name__}.{kind.__name__}" for kind in kinds}
    names |= {f"pytest_jumpstarter.{kind.__name__}" for kind in (CommandFailed, CommandTimeout)}
    assert names - site.names("py:exception") == set()


def test_exit_codes_and_waits(site: Site) -> None:
    """Every exit code is in the reference, in the order in which they decide; and every wait."""
    rows = " ".join(f"{row.name} {row.meaning}" for row in EXIT_CODES)
    assert rows in site.text("reference/exit-codes")
    waits = site.text("reference/waits")
    assert [wait for wait in WAITS if wait.awaited.replace("`", "") not in waits] == []


def test_public_names(site: Site) -> None:
    """Every public name of the package and of the client is in the reference."""
    documented = {name.rpartition(".")[2] for name, kind in site.objects if kind.startswith("py:")}
    assert {*pytest_jumpstarter.__all__, *v1.__all__} - documented == set()


@pytest.mark.parametrize("kind", [Client, Response, Device, Console, LeaseRequest], ids=lambda kind: kind.__name__)
def test_members(site: Site, kind: type) -> None:
    """Every public member of what a test or hook is given is in the reference, but for what only this package calls."""
    page = next(page for (name, _), page in site.objects.items() if name.rpartition(".")[2] == kind.__name__)
    text = site.text(page.removesuffix(".html"))
    members = {name for name in vars(kind) if not name.startswith("_")} - INTERNAL
    assert members
    assert [name for name in sorted(members) if not re.search(rf"\b{name}\b", text)] == []


def test_every_page_is_reached_in_two_clicks(site: Site) -> None:
    """The start page's navigation has every page of the site, so the second click is on the answer."""
    start = (site.folder / "index.html").read_text()
    pages = {name for name in site.names("std:doc") if name not in ("index",)}
    assert [page for page in sorted(pages) if f'href="{page}.html"' not in start] == []


QUESTIONS = {
    "How do I stop U-Boot before it boots?": "howto/boot-loaders",
    "My user may not open the serial port": "bench",
    "What does exit code 8 mean?": "reference/exit-codes",
    "How do I keep the board after a failure?": "howto/hold-and-debug",
    "How do I use two boards in one test?": "tutorial/two-boards",
    "How do I reach a web server on the board?": "howto/tunnels",
    "The token has expired": "reference/messages",
    "How many workers does -n auto start?": "howto/many-boards",
    "Is my password in the report?": "explanation/secrets",
    "What is strategy.transition of labgrid here?": "howto/from-labgrid",
}
"""What people ask, as they would type it, and the page with the answer."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a browser."""
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile") as browser:
        yield Reader(browser, folder)


@pytest.mark.parametrize("question", QUESTIONS)
def test_search(site: Site, reader: Reader, question: str) -> None:
    """The search finds the page with the answer to a question in its own words, among its first five pages."""
    reader.emulate(width=1280)
    reader.open_file(site.folder / "index.html")
    reader.type(".sidebar-search", question + Keys.ENTER)
    reader.until("document.querySelector('.search-summary')?.textContent.match(/found|match/)")
    found = reader.js("return [...document.querySelectorAll('ul.search li > a')].map((a) => a.getAttribute('href'))")
    pages = list(dict.fromkeys(re.split(r"\.html", each)[0] for each in found))
    assert QUESTIONS[question] in pages[:5]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_pages_on_a_screen(site: Site, reader: Reader, width: int, scheme: str) -> None:
    """
    Every page fits a phone and a desktop, light and dark, and everybody can read it, as far as axe-core can tell.

    What is wide, such as a table, scrolls in a box of its own.
    """
    reader.emulate(width=width, scheme=scheme)
    wrong = []
    for page in sorted(site.names("std:doc")):
        reader.open_file(site.folder / f"{page}.html")
        if (shown := reader.js("return document.scrollingElement.scrollWidth")) > width:
            wrong.append(f"{page}: {shown} pixels wide")
        if (width, scheme) in ((400, "dark"), (1280, "light")):  # which have all colours, and both layouts
            wrong += [f"{page}: {each}" for each in reader.violations()]
    assert wrong == []
