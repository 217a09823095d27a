"""Lines during a wait for a lease, and at the end of the run what must be done by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from pytest_jumpstarter.masking import mask


class Terminal:
    """
    Writes to the terminal in spite of pytest's capture, because a wait without output looks like a hang.

    Args:
        elsewhere: Called with everything to show if another process has the terminal, as in a worker of xdist.

    Attributes:
        failures: What a person must do by hand, shown at the end of the run.
        hook_failures: The afterLease hooks that failed, shown at the end of the run.
    """

    def __init__(self, config: pytest.Config, *, elsewhere: Callable[[str, str], None] | None = None) -> None:
        self._elsewhere = elsewhere
        self.failures: list[str] = []
        self.hook_failures: list[str] = []
        self._plugins = config.pluginmanager

    def add_failure(self, kind: str, text: str) -> None:
        """
        Show a failure at the end of the run.

        Args:
            kind: `failure`, which must be corrected by hand, or `hook_failure`.
            text: One line.
        """
        text = mask(text)
        (self.failures if kind == "failure" else self.hook_failures).append(text)
        if self._elsewhere is not None:
            self._elsewhere(kind, text)

    def say(self, line: str) -> None:
        """Show a line at once; nothing is shown if no process has a terminal reporter."""
        line = mask(line)
        if self._elsewhere is not None:
            self._elsewhere("say", line)
            return
        reporter = self._plugins.getplugin("terminalreporter")  # it may be registered after this object
        capture = self._plugins.getplugin("capturemanager")
        if reporter is not None:
            with nullcontext() if capture is None else capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"jumpstarter: {line}")
                reporter.flush()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the leases that were not released, with the commands that release them, and the hooks that failed."""
        for title, failures in (
            ("jumpstarter: not released", self.failures),
            ("jumpstarter: afterLease hook failed", self.hook_failures),
        ):
            if failures:
                terminalreporter.section(title, red=True, bold=True)
                for failure in failures:
                    terminalreporter.write_line(failure)
