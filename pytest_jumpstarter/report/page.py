"""A report for people: one self-contained HTML page, or Markdown for the summary of a CI job."""

from __future__ import annotations

import os
import re
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.evidence.record import Kept
from pytest_jumpstarter.report.run_data import RunData, TestData
from pytest_jumpstarter.report.timeline import WIDTH, Timeline

BAD = ("failed", "error", "device error", "rerun")


def page(data: RunData, path: Path) -> str:
    """Return the report as HTML or Markdown, by the suffix of `path`; links are relative to the folder of `path`."""
    environment = Environment(
        loader=PackageLoader("pytest_jumpstarter.report"),
        autoescape=path.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": format_duration, "moment": _moment, "cell": _cell, "seconds": _seconds}
    return environment.get_template(f"run{path.suffix}").render(
        **data, bad=BAD, timeline=Timeline(data), width=WIDTH, links=partial(_links, path.parent)
    )


def _moment(stamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(stamp))


def _seconds(test: TestData) -> str:
    """Return how long a test took, from the start of its setup."""
    phases = test["phases"].values() or [{"start": 0.0, "stop": 0.0}]  # none if the process died in the setup
    return format_duration(max(each["stop"] for each in phases) - min(each["start"] for each in phases))


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
