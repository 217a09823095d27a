"""
`WorkersController`: what xdist's controller process does for its workers.

All of them have one run id, by which their leases are known, and one embedded lab, started when the first of them asks
for it. A worker that is lost leaves its leases to this process, and so do all when a signal comes or the run ends. A
worker that ends in an orderly way gives back what it has itself.

Where there are more workers than devices, one that has waited for half of `--jmp-wait` is let go first: a worker that
has what is wanted gives it back between two tests.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.errors import (
    JumpstarterError,
)
from pytest_jumpstarter.lab_access import LabAccess
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Wanted
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.signals import OrderlyStop
from pytest_jumpstarter.workers import NOTE
from pytest_jumpstarter.workers.channel import ADDRESS, RUN, ControllerEnd, Message

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted


class WorkersController:
    """
    The workers of a run; registered in xdist's controller process where devices may be asked for.

    Attributes:
        site: The lab of the run.
        stop: The signals, and which of them ends the run.
    """

    def __init__(self, config: pytest.Config, settings: Settings, terminal: Terminal, lab_access: LabAccess) -> None:
        self.lab_access = lab_access
        self._longest = settings["wait"].value / 2
        self._has_leases = settings.mode in ("lab", "lease")
        self._terminal = terminal
        self._run = LeaseIds().run
        self._controller_end: ControllerEnd | None = None
        self.stop = OrderlyStop(self._release_all)
        self._lock = threading.Lock()
        self._pids: dict[str, int] = {}
        self._kept: set[str] = set()
        self._waiting: dict[str, tuple[float, list[Wanted]]] = {}
        self._sweeps: list[threading.Thread] = []
        self._note = config.stash.get(NOTE, "")
        config.add_cleanup(self._close)

    def pytest_report_header(self) -> list[str]:
        """Show why `-n auto` is what it is."""
        return [self._note] if self._note else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what it has in common with the others, and how to reach this process."""
        if self._controller_end is None:
            try:
                self._controller_end = ControllerEnd(self._answer)
            except OSError as exc:
                raise pytest.UsageError(f"no socket for the workers: {exc}; set TMPDIR to a shorter path") from exc
            except RuntimeError as exc:
                raise pytest.UsageError(f"no thread that listens to the workers: {exc}") from exc
            self.stop.install()
        node.workerinput[RUN] = self._run
        node.workerinput[ADDRESS] = self._controller_end.address if node.gateway.spec.popen else ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Give back what a worker leaves behind that was lost."""
        worker = node.gateway.id
        with self._lock:
            self._waiting.pop(worker, None)
            pid = self._pids.pop(worker, 0)
        is_lost = pid and error is not None
        if is_lost:
            _remove_folders([pid])
        if is_lost and self._has_leases and not self.stop.received:
            import pytest_jumpstarter.leasing.release  # noqa: F401 - not in two threads at once

            prefix = LeaseIds(run=self._run, worker=worker).prefix
            thread = threading.Thread(target=self._sweep, args=[prefix], name=f"jumpstarter-sweep-{worker}")
            try:
                thread.start()
                self._sweeps.append(thread)
            except RuntimeError:  # there are no more threads
                self._sweep(prefix)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        """When all workers are gone, give back what those left behind that said no goodbye."""
        try:
            return (yield)
        finally:
            self.stop.wait_released()
            for sweep in self._sweeps:
                sweep.join()
            if self._pids:
                self._sweep(f"pj-{self._run}-")
                _remove_folders(self._pids.values())

    def _close(self) -> None:
        self.stop.restore()
        if self._controller_end is not None:
            self._controller_end.close()
        self.lab_access.close()

    def _answer(self, message: Message) -> Message:
        """Do what a worker asks for; called in a thread of its own."""
        what, text, worker = message.get("do"), str(message.get("text", "")), str(message.get("worker", ""))
        if what == "lab":
            return self._lab()
        with self._lock:
            if what == "hello":
                self._pids[worker] = int(text)
            elif what == "wait":
                wanted = [Wanted(role="", selector=each[0], exporter=each[1]) for each in message["wanted"]]
                self._waiting[worker] = time.monotonic(), wanted
            elif what == "wait_over":
                self._waiting.pop(worker, None)
            elif what == "wanted_by":
                return {"worker": self._wanted_by(message["boards"])}
            elif what == "keep":
                self._kept.add(text)
            elif what in ("say", "failure", "hook_failure"):
                self._terminal.take(what, f"{worker}: {text}")
        return {}

    def _wanted_by(self, boards: list[tuple[str, dict[str, str]]]) -> str:
        """Return the worker that has waited longest for one of the boards, if that is half of `--jmp-wait` or more."""
        for worker, (since, wanted) in sorted(self._waiting.items(), key=lambda each: each[1][0]):
            is_wanted = any(each.fits(name, labels) for each in wanted for name, labels in boards)
            if is_wanted and time.monotonic() - since > self._longest:
                return worker
        return ""

    def _lab(self) -> Message:
        try:
            return {"config": str(self.lab_access.config.path)}
        except (JumpstarterError, OSError) as exc:
            return {"error": str(exc)}

    def _release_all(self) -> None:
        """After a signal: pass it on to the workers, and give back all leases of the run."""
        with self._lock:
            pids = list(self._pids.values())
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        if pids:
            self._sweep(f"pj-{self._run}-")

    def _sweep(self, prefix: str) -> None:
        from pytest_jumpstarter.leasing.release import sweep

        if not self._has_leases:
            return
        try:
            failure = sweep(self.lab_access.client, prefix, is_kept=self._kept.__contains__)
        except Exception as exc:
            failure = f"leases {prefix}* may still be held: {type(exc).__name__}: {exc}"
        if failure:
            self._terminal.take("failure", failure)


def _remove_folders(pids: Iterable[int]) -> None:
    """Remove what workers that are lost have left in the folder for temporary files."""
    from pytest_jumpstarter.device.socket_end import remove_folders_of

    for pid in pids:
        remove_folders_of(pid)
