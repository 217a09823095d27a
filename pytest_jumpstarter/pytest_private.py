"""The touches of pytest's private API, each with its reason."""

from __future__ import annotations

import pytest


def colour_red(reporter: pytest.TerminalReporter) -> None:
    """
    Let the last line of the run be red.

    Reason: pytest colours it yellow for a category that it does not know, and has no way to be told otherwise.
    """
    reporter._main_color = "red"


def junit_error(config: pytest.Config, report: pytest.TestReport, kind: str) -> None:
    """
    Turn the `<failure>` or `<error>` that the JUnit plugin wrote for `report` into an `<error type="…">`.

    Reason: the JUnit plugin calls every failure of the call phase a `<failure>`, and takes no type for either.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    reporter = xml.node_reporter(report)
    for node in reporter.nodes:
        if node.tag in ("failure", "error") and node.get("type") is None:
            if node.tag == "failure":
                xml.stats["failure"] -= 1
                xml.stats["error"] += 1
            node.tag = "error"
            node.set("type", kind)
