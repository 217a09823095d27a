"""Makes all output of a run safe, and collects what no test's report tells."""

from __future__ import annotations

import os

import pytest

from pytest_jumpstarter.evidence.safe_reports import safe_reports
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.report.run_end import run_end


def watch_output(config: pytest.Config) -> None:
    """Make all output of the run safe; in the process that prints also collect what no test's report tells."""
    learn_environment(os.environ)
    safe_reports(config)
    if not hasattr(config, "workerinput"):
        run_end(config)
