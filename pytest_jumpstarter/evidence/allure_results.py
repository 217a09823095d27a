"""
In the process that tests: adds our evidence to the results of allure-pytest, which ignores sections of reports.

It does not see reports as this plugin leaves them either, so the status of a device error is set here.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_jumpstarter.evidence.record import Record

_PLUGIN = "allure_listener"


class AllureResults:
    """
    Adds labels for exporter and lease, and attachments with our sections, to the result of the current test.

    Args:
        listener: The plugin of allure-pytest, which has the result that is being made.
    """

    def __init__(self, listener: Any) -> None:
        self._listener = listener

    @classmethod
    def of(cls, config: pytest.Config) -> AllureResults | None:
        """Return the results of this process; None without allure-pytest, or if it writes nothing."""
        listener = config.pluginmanager.get_plugin(_PLUGIN)
        return cls(listener) if listener is not None else None

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Add what a report has; it is masked already."""
        import allure  # type: ignore[import-not-found, unused-ignore]  # only there with allure-pytest

        if report.when == "call" or report.outcome != "passed":
            for device in record["devices"]:
                self._add_label("exporter", device["exporter"])
                self._add_label("lease", device["lease"])
        titles = record.get("sections", [])
        for title, text in report.sections:
            if title in titles:
                allure.attach(text, name=title, attachment_type=allure.attachment_type.TEXT)
        if "device_error" in record:
            self._set_status("broken", f"device error: {record['device_error']['reason']}", report.longreprtext)

    def _add_label(self, name: str, value: str) -> None:
        """Add a label, once."""
        import allure

        result = self._result()
        known = [(label.name, label.value) for label in result.labels] if result is not None else []
        if value and (name, value) not in known:
            allure.dynamic.label(name, value)

    def _set_status(self, status: str, message: str, trace: str) -> None:
        """Set the status that allure shows; there is no public API for it."""
        from allure_commons.model2 import StatusDetails  # type: ignore[import-not-found, unused-ignore]

        if (result := self._result()) is not None:
            result.status, result.statusDetails = status, StatusDetails(message=message, trace=trace)

    def _result(self) -> Any:
        return self._listener.allure_logger.get_test(None)
