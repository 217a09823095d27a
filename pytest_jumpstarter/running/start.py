"""Starts a run when the first test requests a device, and registers the plugins that it needs."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.evidence.allure_results import AllureResults
from pytest_jumpstarter.evidence.artifacts import Artifacts
from pytest_jumpstarter.evidence.builtin import BuiltInEvidence
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES, LeaseTimesRecorder
from pytest_jumpstarter.evidence.safe_reports import safe_reports
from pytest_jumpstarter.evidence.sections import Sections
from pytest_jumpstarter.evidence.short_errors import ShortErrors
from pytest_jumpstarter.evidence.state_times import STATE_TIMES
from pytest_jumpstarter.host.grpc_import import import_grpc
from pytest_jumpstarter.lab_access import lab_access_of
from pytest_jumpstarter.leasing.lease_request import LeaseIds
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.report.past_capture import PastCapture
from pytest_jumpstarter.report.progress import Progress
from pytest_jumpstarter.report.run_end import run_end
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import current_test
from pytest_jumpstarter.running.device_fixtures import device_fixtures
from pytest_jumpstarter.running.forks import warn_of_forks
from pytest_jumpstarter.running.hold_on_failure import HoldOnFailure
from pytest_jumpstarter.running.hook_events import HookEvents
from pytest_jumpstarter.running.pipeline import Pipeline
from pytest_jumpstarter.running.resources import load_reports
from pytest_jumpstarter.running.retries import RETRIED_PROTOCOL, Retries
from pytest_jumpstarter.running.run import Run
from pytest_jumpstarter.running.skip_without_device import DeviceSkips
from pytest_jumpstarter.running.verdict import Verdicts
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.workers import WORKERS
from pytest_jumpstarter.workers.channel import ADDRESS, RUN_ID, WorkerEnd
from pytest_jumpstarter.workers.refusals import Refusals

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.connect import DeviceSettings


def start_run(session: pytest.Session, settings: Settings) -> Run:
    """Start the run of this process, in the setup of a test; from now on our hooks run for each test."""
    config = session.config
    if (run := config.stash.get(RUN, None)) is not None:
        return run  # the fixture is set up again, because a test runs again
    import_grpc()
    given = getattr(config, "workerinput", {})
    worker = given.get("workerid", "main")
    worker_end = WorkerEnd(given[ADDRESS], worker) if given.get(ADDRESS) else None
    terminal = Terminal(config, elsewhere=worker_end.tell if worker_end else None)
    events = HookEvents(config, terminal, current_test(session), worker_end)
    lab_access = lab_access_of(
        config,
        settings,
        lab_elsewhere=worker_end.lab if worker_end else None,
        token_elsewhere=worker_end.token if worker_end else _nobody if given else None,
        say=terminal.say,
        meanwhile=import_clients,
    )
    ids = LeaseIds(run=given.get(RUN_ID, ""), worker=worker)
    past_capture = PastCapture(config) if worker_end is None else None
    show = past_capture.line if past_capture is not None else terminal.say
    device_settings = _device_settings(settings, show)
    config.stash[RUN] = run = Run(settings, events, lab_access=lab_access, ids=ids, device_settings=device_settings)
    if settings.is_on("avoid-unhealthy") and (history := settings.path("history")) is not None:
        from pytest_jumpstarter.running.unhealthy import unhealthy_exporters

        run.choice.last = unhealthy_exporters(history, terminal.say)
    events.healths = run.healths
    events.refusals = Refusals(config, settings, lab_access)
    events.skips = DeviceSkips() if settings["no-device"].value == "skip" else None
    learn_environment(settings.environ)
    load_reports()
    warn_of_forks(terminal)
    pipeline = _pipeline(session, settings, run, worker, events)
    if not events.is_quiet:
        events.progress = Progress(past_capture or terminal.say)
        config.pluginmanager.register(events.progress, "jumpstarter-progress")
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    config.pluginmanager.register(pipeline, "jumpstarter-pipeline")
    run_end(config).watch(run.stop, terminal)
    atexit.register(gc.freeze)  # otherwise the interpreter searches all imported modules for cycles at its end, twice
    config.add_cleanup(run.finish)  # the second layer: pytest_unconfigure releases whatever the fixture did not
    return run


def import_clients() -> None:
    """Import what driver clients need; the first test that needs a device gets an error."""
    with suppress(Exception):
        from pytest_jumpstarter.device.exporter_connection import warm_up

        warm_up()


def _nobody(_: str) -> None:
    """Ask nobody for a token: a worker of another machine cannot reach xdist's controller process."""


def _pipeline(session: pytest.Session, settings: Settings, run: Run, worker: str, events: HookEvents) -> Pipeline:
    """Return the pipeline of reports; register those of its steps that implement hooks of leases and devices."""
    config = session.config
    test, fixtures = current_test(session), device_fixtures(session)
    sections = Sections()
    config.stash[LEASE_TIMES] = lease_times = LeaseTimesRecorder(worker, start=test.phases[0][1])
    artifacts = None
    if (root := settings.path("artifacts")) is not None:
        artifacts = Artifacts(root, settings["console"].value, sections)
        config.pluginmanager.register(BuiltInEvidence(), "jumpstarter-builtin-evidence")
    config.pluginmanager.register(sections, "jumpstarter-sections")
    config.pluginmanager.register(lease_times, "jumpstarter-lease-times")
    retries = None
    if (protocol := config.stash.get(RETRIED_PROTOCOL, None)) is not None:
        protocol.retries = retries = Retries(run, settings, fixtures)
    hold = settings.find("hold-on-failure")
    can_hold = run.mode == "lease" or (run.mode == "lab" and worker == "main")  # elsewhere the lease ends with the run
    return Pipeline(
        run,
        worker,
        test,
        fixtures,
        short_errors=ShortErrors(),
        verdicts=Verdicts(test, run.healths),
        retries=retries,
        skips=events.skips,
        hold=HoldOnFailure(run, hold.value) if hold is not None and can_hold else None,
        sections=sections,
        lease_times=lease_times,
        transfers=events.transfers,
        state_times=config.stash.get(STATE_TIMES, None),
        artifacts=artifacts,
        safe_reports=safe_reports(config),
        allure=AllureResults.of(config),
    )


def _device_settings(settings: Settings, show: Callable[[str], None]) -> DeviceSettings:
    """Return the settings of devices; `show` may show the lines of consoles, which are recorded only if wanted."""
    from pytest_jumpstarter.device.console_defaults import ConsoleDefaults
    from pytest_jumpstarter.leasing.connect import DeviceSettings

    fatal = [setting.value for setting in settings.all("console-fatal")]
    console, limit, is_live = settings["console"], settings.find("call-timeout"), settings.is_on("console-live")
    return DeviceSettings(
        consoles=ConsoleDefaults(
            fatal=tuple(pattern for pattern in fatal if pattern != "off") if fatal else None,
            timeout=settings["console-timeout"].value,
            keeps_escapes=settings["console-escapes"].value == "keep",
        ),
        records_consoles=is_live or (not console.is_default and console.value != "off"),
        show_line=(lambda role, line: show(f"{role}| {line}")) if is_live else None,
        call_timeout=limit.value if limit is not None else None,
        flashes_always=settings["flash"].value == "always",
    )


def start_workers_controller(config: pytest.Config, settings: Settings) -> None:
    """Start the part of xdist's controller process, if tests may request devices."""
    from pytest_jumpstarter.workers.controller import WorkersController

    terminal = Terminal(config)
    config.stash[WORKERS] = workers_controller = WorkersController(
        config, settings, terminal, lab_access_of(config, settings, say=terminal.say)
    )
    config.pluginmanager.register(workers_controller, "jumpstarter-workers")
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    safe_reports(config)
    run_end(config).watch(workers_controller.stop, terminal)
