"""A report for people: one self-contained HTML page, or Markdown for the summary of a CI job."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.evidence.record import Kept
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.report.failure_groups import groups
from pytest_jumpstarter.report.headline import headline
from pytest_jumpstarter.report.outcomes import FAILED, in_words
from pytest_jumpstarter.report.page_data import PageData
from pytest_jumpstarter.report.run_data import RunData

_STYLES = ("page.css", "tests.css", "timeline.css")
_SCRIPTS = (
    "dom.js",
    "model.js",
    "filters.js",
    "entry.js",
    "failures.js",
    "lists.js",
    "timeline.js",
    "chart.js",
    "paper.js",
    "main.js",
)


def page(data: RunData, path: Path) -> str:
    """Return the report as HTML or Markdown, by the suffix of `path`; links are relative to the folder of `path`."""
    environment = Environment(
        loader=PackageLoader("pytest_jumpstarter.report"),
        autoescape=path.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": format_duration, "moment": _moment, "cell": _cell, "in_words": in_words}
    facts: dict[str, object] = {"bad": FAILED}
    if path.suffix == ".html":
        facts = _interactive(data, path, environment)
    return environment.get_template(f"run{path.suffix}").render(**data, **facts)


def _interactive(data: RunData, path: Path, environment: Environment) -> dict[str, object]:
    """Return what the template of the page needs beside the data: its style, its script, and what that reads."""
    found = groups(data)
    compact = PageData(data, found, partial(_links, path.parent))
    style, script = (_joined(environment, names) for names in (_STYLES, _SCRIPTS))
    return {
        "headline": headline(data),
        "groups": found,
        "facts": Markup(compact.facts()),  # JSON without "<"
        "texts": compact.texts(),
        "style": Markup(style),  # files of this package
        "script": Markup(script),
        "allowed": f"style-src {_digest(style)}; script-src {_digest(script)}",
    }


def _joined(environment: Environment, names: tuple[str, ...]) -> str:
    """Return files of the folder `templates`, one after the other; they are no templates."""
    assert environment.loader is not None
    return "".join(environment.loader.get_source(environment, name)[0] for name in names)


def _digest(text: str) -> str:
    """Return how a Content-Security-Policy names an element with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _moment(stamp: float) -> str:
    return real_time.clock(stamp, "%Y-%m-%d %H:%M:%S %z")


def _cell(text: str, limit: int = 200) -> str:
    """Return text for a cell of a Markdown table, with all markup escaped."""
    short = " ".join(text.split())
    short = short if len(short) <= limit else f"{short[: limit - 1]}…"
    return re.sub(r"[\\`*_{}\[\]<>#|~&@!]", lambda found: f"&#{ord(found[0])};", short)


def _links(folder: Path, artifacts: Kept | None) -> list[tuple[str, str]]:
    """Return the name and the relative URL of each file of a test's folder."""
    if artifacts is None:
        return []
    base = os.path.relpath(Path(artifacts["root"], artifacts["folder"]), folder)
    return [(name, quote(f"{base}/{name}")) for name in artifacts["files"]]
