"""Output of consoles and exporters during a failed test, and links to its evidence, in the JUnit file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import Kept, Record
from pytest_jumpstarter.report.part import ReportPart

_GITLAB_FOLDER = "CI_PROJECT_DIR"


class JunitOutput(ReportPart):
    """In the process that prints: writes our sections, which the JUnit plugin ignores, and links to files."""

    def expect(self, report: pytest.TestReport, record: Record) -> None:
        """Write them now, because the JUnit plugin completes the test's element when it gets the report."""
        names, kept = record.get("sections", []), record.get("artifacts")
        element = pytest_private.junit_element(self._config, report) if names or kept else None
        if element is None:
            return
        for title, text in report.sections:
            if title in names:
                pytest_private.junit_output(element, f"{title}\n{text}")
        if kept is not None and kept["files"]:
            pytest_private.junit_output(element, "\n".join(_attachments(kept)))

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Do nothing: `expect` wrote everything."""


def _attachments(kept: Kept) -> list[str]:
    """
    Return a line for each file of a test, by which Jenkins and GitLab link it from the test.

    Source: Jenkins, JUnit Attachments plugin, which takes absolute paths; GitLab, unit test reports, which takes paths
    relative to the project
    """
    folder, project = Path(kept["root"], kept["folder"]), os.environ.get(_GITLAB_FOLDER, "")
    if project and folder.is_relative_to(project):
        folder = folder.relative_to(project)
    return [f"[[ATTACHMENT|{folder / name}]]" for name in kept["files"]]
