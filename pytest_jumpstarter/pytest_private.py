"""The touches of pytest's private API, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest


def colour_red(reporter: pytest.TerminalReporter) -> None:
    """
    Let the last line of the run be red.

    Reason: pytest colours it yellow for a category that it does not know, and has no way to be told otherwise.
    """
    reporter._main_color = "red"


def junit_element(config: pytest.Config, report: pytest.TestReport) -> Any:
    """
    Return what the JUnit plugin writes the test of `report` with, or None; ask before it sees the report.

    Reason: after a teardown it is final, and cannot be found any more.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    return None if xml is None else xml.node_reporter(report)


def junit_error(config: pytest.Config, element: Any, kind: str) -> None:
    """
    Turn the last `<failure>` or `<error>` of a test in the JUnit file into an `<error type="…">`.

    Reason: the JUnit plugin calls every failure of the call phase a `<failure>`, and takes no type for either.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    nodes = [node for node in element.to_xml() if node.tag in ("failure", "error")] if element is not None else []
    if nodes and xml is not None:
        if nodes[-1].tag == "failure":
            xml.stats["failure"] -= 1
            xml.stats["error"] += 1
        nodes[-1].tag = "error"
        nodes[-1].set("type", kind)
