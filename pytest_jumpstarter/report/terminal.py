"""Lines while a lease is waited for, and what is left to do by hand at the end."""

from __future__ import annotations

import pytest


class Terminal:
    """
    The terminal, past pytest's capture: a wait that nobody sees looks like a hang.

    Attributes:
        failures: What a person must do by hand, shown at the end of the run.
        hook_failures: Which afterLease hooks failed, shown likewise.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.failures: list[str] = []
        self.hook_failures: list[str] = []
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._reporter = config.pluginmanager.getplugin("terminalreporter")

    def say(self, line: str) -> None:
        """Show a line at once; without a terminal of its own (an xdist worker) the process says nothing."""
        if self._reporter is None:
            return
        if self._capture is None:
            self._write(line)
        else:
            with self._capture.global_and_fixture_disabled():
                self._write(line)

    def _write(self, line: str) -> None:
        self._reporter.ensure_newline()
        self._reporter.write_line(f"jumpstarter: {line}")
        self._reporter.flush()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what could not be given back, with the command that would do it, and what could not clean up."""
        for title, failures in (
            ("jumpstarter: not released", self.failures),
            ("jumpstarter: afterLease hook failed", self.hook_failures),
        ):
            if failures:
                terminalreporter.section(title, red=True, bold=True)
                for failure in failures:
                    terminalreporter.write_line(failure)
