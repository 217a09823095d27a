"""The end of the run in the JUnit file: properties of the suite, and an `<error>` in each test that did not end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.report.run_data import EndData

_SHOWN = 5  # tests in a line


def write_end(config: pytest.Config, end: EndData) -> None:
    """Add how the run ended, and what is in no test's report; while the run goes on, what there is to say so far."""
    has_ended = end["exit_code"] is not None
    facts = {"exit_code": str(end["exit_code"]) if has_ended else ""}
    facts |= {"meaning": end["meaning"], "ended_by": end["ended_by"]}
    facts |= {"interrupted": listed(end["interrupted"]), "never_began": listed(end["never_began"])}
    for number, each in enumerate(end["problems"], 1):
        facts[f"problem.{number}"] = ": ".join(filter(None, (each["kind"], each["where"], each["reason"])))
    for name, value in facts.items():
        pytest_private.junit_suite_property(config, f"jumpstarter.{name}", safe(value))
    for test in end["interrupted"] if has_ended else ():
        pytest_private.junit_interrupted(config, test, f"interrupted: {end['ended_by'] or 'the run ended'}")
    pytest_private.junit_change(config, safe)


def listed(tests: Sequence[str]) -> str:
    """Return how many tests there are, and the first of them; nothing if there are none."""
    more = f" and {len(tests) - _SHOWN} more" if len(tests) > _SHOWN else ""
    return f"{len(tests)}: {', '.join(tests[:_SHOWN])}{more}" if tests else ""
