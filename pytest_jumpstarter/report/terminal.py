"""Lines during a wait for a lease, and at the end of the run what must be done by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from pytest_jumpstarter.masking import safe

PROBLEMS = {"failure": "not released", "hook_failure": "hook failed"}
"""What is told at the end of a run; the kinds of `add_failure`, with the words for people."""

_TITLES = {"failure": "not released", "hook_failure": "hooks that failed"}


class Terminal:
    """
    Writes to the terminal in spite of pytest's capture, because a wait without output looks like a hang.

    Args:
        elsewhere: Called with everything to show if another process has the terminal, as in a worker of xdist.

    Attributes:
        told: What is shown at the end of the run: its kind, and the text.
    """

    def __init__(self, config: pytest.Config, *, elsewhere: Callable[[str, str], None] | None = None) -> None:
        self._elsewhere = elsewhere
        self.told: list[tuple[str, str]] = []
        self._shown = 0
        self._said: set[str] = set()
        self._plugins = config.pluginmanager
        self._config = config

    def add_failure(self, kind: str, text: str) -> None:
        """
        Show a failure at the end of the run.

        Args:
            kind: A key of `PROBLEMS`; a `failure` must be corrected by hand.
            text: One line, or more.
        """
        text = safe(text)
        self.told.append((kind, text))
        if self._elsewhere is not None:
            self._elsewhere(kind, text)

    def say(self, line: str) -> None:
        """Show a line at once; nothing is shown if no process has a terminal reporter."""
        line = safe(line)
        if self._elsewhere is not None:
            self._elsewhere("say", line)
            return
        reporter = self._plugins.getplugin("terminalreporter")  # it may be registered after this object
        capture = self._plugins.getplugin("capturemanager")
        if reporter is not None:
            with nullcontext() if capture is None else capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                if (
                    self._config.get_terminal_writer().width_of_current_line
                ):  # the dots of xdist, which pytest does not count
                    reporter.write_line("")
                reporter.write_line(f"jumpstarter: {line}")
                reporter.flush()

    def say_once(self, text: str) -> None:
        """Show a text at once, unless that was done in this run."""
        if text not in self._said:
            self._said.add(text)
            if self._elsewhere is not None:
                self._elsewhere("say_once", safe(text))
            else:
                self.say(text)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the leases that were not released, with the commands that release them, and the hooks that failed."""
        new, self._shown = self.told[self._shown :], len(self.told)
        for kind, title in _TITLES.items():
            if texts := [text for each, text in new if each == kind]:
                terminalreporter.section(f"jumpstarter: {title}", red=True, bold=True)
                for text in texts:
                    terminalreporter.write_line(text)
