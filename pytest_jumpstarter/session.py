"""What joins a run to pytest, from the moment the first test asks for a device: hooks, reports, signals."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.request import LeaseIds
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.report.artifacts import Artifacts
from pytest_jumpstarter.report.collect import BuiltIn
from pytest_jumpstarter.report.device_errors import EXIT_CODE
from pytest_jumpstarter.report.evidence import Evidence
from pytest_jumpstarter.report.masked import Masked
from pytest_jumpstarter.report.no_device import Skips
from pytest_jumpstarter.report.outcome import Outcome
from pytest_jumpstarter.report.recorder import LEASE_TIMES, Recorder
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.run import Run
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import CurrentTest, current_test
from pytest_jumpstarter.running.device_fixtures import device_fixtures
from pytest_jumpstarter.running.hold_on_failure import HoldOnFailure
from pytest_jumpstarter.running.pipeline import Pipeline
from pytest_jumpstarter.running.retries import RETRIED_PROTOCOL, Retries
from pytest_jumpstarter.running.verdict import Verdicts
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.signals import Interrupter
from pytest_jumpstarter.site import site_of
from pytest_jumpstarter.workers import CREW
from pytest_jumpstarter.workers.link import ADDRESS, Link
from pytest_jumpstarter.workers.link import RUN as RUN_ID

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted
    from pytest_jumpstarter.leasing.connect import ConsolePolicy
    from pytest_jumpstarter.leasing.health import Health
    from pytest_jumpstarter.workers.crew import Crew


def start_run(session: pytest.Session, settings: Settings) -> Run:
    """Start the run of this process, in the setup of a test: from here on there are hooks of ours for each test."""
    config = session.config
    if (run := config.stash.get(RUN, None)) is not None:
        return run  # the fixture is made again, since a test runs again
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its notices go to stderr, past pytest and in nobody's interest
    given = getattr(config, "workerinput", {})
    worker = given.get("workerid", "main")
    link = Link(given[ADDRESS], worker) if given.get(ADDRESS) else None
    terminal = Terminal(config, elsewhere=link.tell if link else None)
    events = HookEvents(config, terminal, current_test(session), link)
    site = site_of(config, settings, lab_elsewhere=link.lab if link else None)
    ids = LeaseIds(run=given.get(RUN_ID, ""), worker=worker)
    config.stash[RUN] = run = Run(settings, events, site=site, ids=ids, consoles=_consoles(settings))
    events.healths = run.healths
    events.skips = Skips() if settings["no-device"].value == "skip" else None
    learn_environment(settings.environ)
    pipeline = _pipeline(session, settings, run, worker, events.skips)
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    config.pluginmanager.register(pipeline, "jumpstarter-pipeline")
    config.pluginmanager.register(Ending(run, terminal), "jumpstarter-ending")
    atexit.register(gc.freeze)  # else the interpreter's last act is to look for cycles in all that was imported, twice
    config.add_cleanup(run.finish)  # the second layer: pytest_unconfigure, whatever became of the fixture
    return run


def _pipeline(session: pytest.Session, settings: Settings, run: Run, worker: str, skips: Skips | None) -> Pipeline:
    """Return what makes our part of each report; register what listens to the hooks of leases and devices for it."""
    config = session.config
    test, fixtures = current_test(session), device_fixtures(session)
    sections = Evidence()
    config.stash[LEASE_TIMES] = lease_times = Recorder(worker, start=test.phases[0][1])
    artifacts = None
    if (folder := settings.find("artifacts")) is not None:
        root = Path(config.invocation_params.dir, folder.value)
        artifacts = Artifacts(root, settings["console"].value, sections)
        config.pluginmanager.register(BuiltIn(), "jumpstarter-collect")
    config.pluginmanager.register(sections, "jumpstarter-sections")
    config.pluginmanager.register(lease_times, "jumpstarter-lease-times")
    retries = None
    if (protocol := config.stash.get(RETRIED_PROTOCOL, None)) is not None:
        protocol.retries = retries = Retries(run, settings, fixtures)
    hold = settings.find("hold-on-failure")
    can_hold = run.mode == "lease" or (run.mode == "lab" and worker == "main")  # others end with what they have
    return Pipeline(
        run,
        worker,
        test,
        fixtures,
        short_errors=Outcome(),
        verdicts=Verdicts(test, run.healths),
        retries=retries,
        skips=skips,
        hold=HoldOnFailure(run, hold.value) if hold is not None and can_hold else None,
        sections=sections,
        lease_times=lease_times,
        artifacts=artifacts,
        masked=Masked(config),
    )


def _consoles(settings: Settings) -> ConsolePolicy:
    """Return what the settings say of consoles: recorded from the start only if that is asked for by name."""
    from pytest_jumpstarter.leasing.connect import ConsolePolicy

    fatal = [setting.value for setting in settings.all("console-fatal")]
    console = settings["console"]
    return ConsolePolicy(
        fatal=tuple(pattern for pattern in fatal if pattern != "off") if fatal else None,
        is_recorded=not console.is_default and console.value != "off",
    )


def start_crew(config: pytest.Config, settings: Settings) -> None:
    """Start what xdist's controller process does for its workers, where devices may be asked for."""
    from pytest_jumpstarter.workers.crew import Crew

    terminal = Terminal(config)
    config.stash[CREW] = crew = Crew(config, settings, terminal, site_of(config, settings))
    config.pluginmanager.register(crew, "jumpstarter-crew")
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    config.pluginmanager.register(Ending(crew, terminal), "jumpstarter-ending")


class HookEvents(Events):
    """
    Pass on what happens to the hooks and to the terminal.

    Attributes:
        healths: The state of each role's device.
        skips: Skips tests for which no device is to be had; None where these fail.
    """

    skips: Skips | None = None

    def __init__(self, config: pytest.Config, terminal: Terminal, test: CurrentTest, link: Link | None) -> None:
        self.healths: Mapping[str, Health] = {}
        self._config = config
        self._link = link
        self._hook = config.hook
        self._terminal = terminal
        self._test = test
        self._interrupter = Interrupter()

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Call `pytest_jumpstarter_lease_request`."""
        self._hook.pytest_jumpstarter_lease_request(request=request, role=role, config=self._config)

    def on_acquired(self, lease: Lease, role: str) -> None:
        """Call `pytest_jumpstarter_lease_acquired`."""
        self._hook.pytest_jumpstarter_lease_acquired(lease=lease, role=role, config=self._config)

    def on_ready(self, device: Device) -> None:
        """Call `pytest_jumpstarter_device_ready`."""
        self._hook.pytest_jumpstarter_device_ready(device=device, config=self._config)

    def on_release(self, device: Device) -> None:
        """Call `pytest_jumpstarter_device_release`."""
        self._hook.pytest_jumpstarter_device_release(device=device, config=self._config)

    def on_released(self, lease: Lease, role: str) -> None:
        """Call `pytest_jumpstarter_lease_released`."""
        self._hook.pytest_jumpstarter_lease_released(lease=lease, role=role, config=self._config)

    def say(self, line: str) -> None:
        """Show the line, past pytest's capture."""
        self._terminal.say(line)

    def on_wait(self, wanted: Sequence[Wanted]) -> None:
        """Let other workers of xdist know, who may have had what is wanted for long."""
        if self._link is not None:
            self._link.wait([(each.selector, each.exporter) for each in wanted])

    def on_wait_over(self) -> None:
        """Let them know."""
        if self._link is not None:
            self._link.tell("wait_over", "")

    def wanted_by(self, exporters: Sequence[ExporterIdentity]) -> str:
        """Ask xdist's controller process for a worker that has waited too long."""
        boards = [(exporter.name, dict(exporter.labels or {})) for exporter in exporters]
        return self._link.wanted_by(boards) if self._link is not None else ""

    def on_reserved(self, lease: str) -> None:
        """Let xdist's controller process leave the lease alone, too."""
        if self._link is not None:
            self._link.tell("keep", lease)

    def on_no_device(self, wanted: str, error: LeaseTimeout) -> None:
        """Skip the test if that is wished for."""
        if self.skips is not None:
            self.skips.skip(wanted, error)

    def on_loss(self, role: str, loss: DeviceError) -> None:
        """End the test that the loss leaves waiting, unless a person is looking into it."""
        item, health = self._test.item, self.healths.get(role)

        def is_waiting() -> bool:
            is_the_same = self._test.item is item and self.healths.get(role) is health
            return is_the_same and self._test.is_interruptible

        if item is not None and role in devices_of(item).roles:
            self._interrupter.interrupt(loss, is_waiting)

    def on_start(self) -> None:
        """Take over the signal by which a blocked test is ended; let the process that prints know of this one."""
        if self._link is not None:
            self._link.tell("hello", str(os.getpid()))
        self._interrupter.install()

    def on_end(self) -> None:
        """Give the signal back."""
        self._interrupter.restore()

    def on_hook_failure(self, failure: str) -> None:
        """Keep the failure for the end of the run."""
        self._terminal.take("hook_failure", failure)

    def on_failure(self, failure: str) -> None:
        """Keep the failure for the end of the run."""
        self._terminal.take("failure", failure)


class Ending:
    """
    The exit code of a run that a signal ended, or that could not give a board back.

    Args:
        run: What knows of a signal: a run, or in xdist's controller process the crew of workers.
    """

    def __init__(self, run: Run | Crew, terminal: Terminal) -> None:
        self.run = run
        self._terminal = terminal

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Let the exit code be the signal's, and say what teardowns made of boards that had gone back already."""
        try:
            return (yield)
        except Exception as exc:
            if not self.run.stop.received:
                raise
            self._terminal.say(f"in teardown, after the boards were given back: {type(exc).__name__}: {exc}")
            return None
        finally:
            if self.run.stop.received:
                session.exitstatus = 128 + self.run.stop.received
            elif self._terminal.failures and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = EXIT_CODE
