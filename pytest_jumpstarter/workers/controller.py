"""
`WorkersController`: what xdist's controller process does for its workers.

All workers have one run id, which identifies their leases, and one embedded lab, which starts when the first of them
asks for it. This process releases the leases of a worker that crashed, and of all workers after a signal and at the end
of the run. A worker that ends normally releases its leases itself.

If there are more workers than devices, a worker that has waited for half of `--jmp-wait` gets a device: a worker that
has one that matches releases it between two tests.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any

import pytest

from pytest_jumpstarter.errors import JumpstarterError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.lab_access import LabAccess
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Wanted
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.report.terminal import PROBLEMS, Terminal
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.signals import OrderlyStop
from pytest_jumpstarter.workers import EXPECTED, NOTE
from pytest_jumpstarter.workers.channel import ADDRESS, RUN_ID, ControllerEnd, Message
from pytest_jumpstarter.workers.refusals import Refusals


class WorkersController:
    """
    The workers of a run; registered in xdist's controller process if tests may ask for devices.

    Attributes:
        lab_access: The lab of the run.
        stop: Handles signals, and knows which of them has ended the run.
    """

    def __init__(self, config: pytest.Config, settings: Settings, terminal: Terminal, lab_access: LabAccess) -> None:
        self.lab_access = lab_access
        self._longest_wait = settings["wait"].value / 2
        self._has_leases = settings.mode in ("lab", "lease")
        self._terminal = terminal
        self._run = LeaseIds().run
        self._controller_end: ControllerEnd | None = None
        self.stop = OrderlyStop(self._release_all)
        self._lock = threading.Lock()
        self._pids: dict[str, int] = {}
        self._kept: set[str] = set()
        self._refusals = Refusals(config, settings, lab_access)
        self._waiting: dict[str, tuple[float, list[Wanted]]] = {}
        self._sweeps: list[threading.Thread] = []
        self._note = config.stash.get(NOTE, "")
        self._expected = _expected(settings)
        config.add_cleanup(self._close)

    def pytest_report_header(self) -> list[str]:
        """Explain the number of workers for `-n auto`."""
        return [safe(self._note)] if self._note else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the run id and the address of this process to a worker."""
        if self._controller_end is None:
            try:
                self._controller_end = ControllerEnd(self._answer)
            except OSError as exc:
                raise pytest.UsageError(f"no socket for the workers: {exc}; set TMPDIR to a shorter path") from exc
            except RuntimeError as exc:
                raise pytest.UsageError(f"no thread that listens to the workers: {exc}") from exc
            self.stop.install()
        node.workerinput[RUN_ID] = self._run
        node.workerinput[EXPECTED] = self._expected
        node.workerinput[ADDRESS] = self._controller_end.address if node.gateway.spec.popen else ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Release the leases of a worker that crashed."""
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
            except RuntimeError:  # no more threads
                self._sweep(prefix)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        """When all workers have ended, release the leases of those that did not end normally."""
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
        """Handle a message of a worker and return the answer; called in a separate thread for each worker."""
        what, text, worker = message.get("do"), str(message.get("text", "")), str(message.get("worker", ""))
        if what == "lab":
            return self._lab()
        if what == "token":
            return self._token(text)
        with self._lock:
            if what == "hello":
                self._pids[worker] = int(text)
            elif what == "wait":
                wanted = [Wanted(role="", selector=each[0], exporter=each[1]) for each in message["wanted"]]
                self._waiting[worker] = real_time.monotonic(), wanted
            elif what == "wait_over":
                self._waiting.pop(worker, None)
            elif what == "wanted_by":
                return {"worker": self._wanted_by(message["boards"])}
            elif what == "refused":
                self._refusals.add([text])
            elif what == "refused_exporters":
                return {"exporters": sorted(self._refusals.names)}
            elif what == "keep":
                self._kept.add(text)
            elif what == "say":
                self._terminal.say(f"{worker}: {text}")
            elif what == "say_once":
                self._terminal.say_once(text)
            elif what in PROBLEMS:
                self._terminal.add_failure(what, f"{worker}: {text}")
        return {}

    def _wanted_by(self, boards: list[tuple[str, dict[str, str]]]) -> str:
        """Return the worker that has waited longest for one of the boards, if longer than half of `--jmp-wait`."""
        for worker, (since, wanted) in sorted(self._waiting.items(), key=lambda each: each[1][0]):
            is_wanted = any(each.fits(name, labels) for each in wanted for name, labels in boards)
            if is_wanted and real_time.monotonic() - since > self._longest_wait:
                return worker
        return ""

    def _lab(self) -> Message:
        try:
            return {"config": str(self.lab_access.config.path)}
        except (JumpstarterError, OSError) as exc:
            return {"error": str(exc)}

    def _token(self, expired: str) -> Message:
        """Renew the token of all workers, which share it."""
        try:
            return self.lab_access.renewal.answer(expired)
        except (JumpstarterError, OSError) as exc:
            return {"reason": str(exc), "is_passing": False}

    def _release_all(self) -> None:
        """After a signal: end the workers, and release all leases of the run."""
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
            self._terminal.add_failure("failure", failure)


def _remove_folders(pids: Iterable[int]) -> None:
    """Remove the temporary folders of workers that crashed."""
    from pytest_jumpstarter.device.socket_end import remove_folders_of

    for pid in pids:
        remove_folders_of(pid)


def _expected(settings: Settings) -> dict[str, float]:
    """Return how long each test takes, for `--jmp-order longest`; nothing if the history cannot be read."""
    path = settings.path("history")
    if settings["order"].value != "longest" or path is None:
        return {}
    from pytest_jumpstarter.history.store import known_seconds

    return known_seconds(path)
