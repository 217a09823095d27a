"""What joins a run to pytest, from the moment the first test asks for a device: hooks, reports, signals."""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.evidence.artifacts import Artifacts
from pytest_jumpstarter.evidence.builtin import BuiltInEvidence
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES, LeaseTimesRecorder
from pytest_jumpstarter.evidence.masked import Masked
from pytest_jumpstarter.evidence.sections import Sections
from pytest_jumpstarter.evidence.short_errors import ShortErrors
from pytest_jumpstarter.lab_access import lab_access_of
from pytest_jumpstarter.leasing.lease_request import LeaseIds
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import current_test
from pytest_jumpstarter.running.device_fixtures import device_fixtures
from pytest_jumpstarter.running.exit_code import ExitCode
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
from pytest_jumpstarter.workers.channel import ADDRESS, WorkerEnd
from pytest_jumpstarter.workers.channel import RUN as RUN_ID

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.connect import ConsolePolicy


def start_run(session: pytest.Session, settings: Settings) -> Run:
    """Start the run of this process, in the setup of a test: from here on there are hooks of ours for each test."""
    config = session.config
    if (run := config.stash.get(RUN, None)) is not None:
        return run  # the fixture is made again, since a test runs again
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its notices go to stderr, past pytest and in nobody's interest
    given = getattr(config, "workerinput", {})
    worker = given.get("workerid", "main")
    worker_end = WorkerEnd(given[ADDRESS], worker) if given.get(ADDRESS) else None
    terminal = Terminal(config, elsewhere=worker_end.tell if worker_end else None)
    events = HookEvents(config, terminal, current_test(session), worker_end)
    lab_access = lab_access_of(config, settings, lab_elsewhere=worker_end.lab if worker_end else None)
    ids = LeaseIds(run=given.get(RUN_ID, ""), worker=worker)
    config.stash[RUN] = run = Run(settings, events, lab_access=lab_access, ids=ids, consoles=_consoles(settings))
    events.healths = run.healths
    events.skips = DeviceSkips() if settings["no-device"].value == "skip" else None
    learn_environment(settings.environ)
    load_reports()
    pipeline = _pipeline(session, settings, run, worker, events.skips)
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    config.pluginmanager.register(pipeline, "jumpstarter-pipeline")
    config.pluginmanager.register(ExitCode(run, terminal), "jumpstarter-ending")
    atexit.register(gc.freeze)  # else the interpreter's last act is to look for cycles in all that was imported, twice
    config.add_cleanup(run.finish)  # the second layer: pytest_unconfigure, whatever became of the fixture
    return run


def _pipeline(
    session: pytest.Session, settings: Settings, run: Run, worker: str, skips: DeviceSkips | None
) -> Pipeline:
    """Return what makes our part of each report; register what listens to the hooks of leases and devices for it."""
    config = session.config
    test, fixtures = current_test(session), device_fixtures(session)
    sections = Sections()
    config.stash[LEASE_TIMES] = lease_times = LeaseTimesRecorder(worker, start=test.phases[0][1])
    artifacts = None
    if (folder := settings.find("artifacts")) is not None:
        root = Path(config.invocation_params.dir, folder.value)
        artifacts = Artifacts(root, settings["console"].value, sections)
        config.pluginmanager.register(BuiltInEvidence(), "jumpstarter-collect")
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
        short_errors=ShortErrors(),
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


def start_workers_controller(config: pytest.Config, settings: Settings) -> None:
    """Start what xdist's controller process does for its workers, where devices may be asked for."""
    from pytest_jumpstarter.workers.controller import WorkersController

    terminal = Terminal(config)
    config.stash[WORKERS] = workers_controller = WorkersController(
        config, settings, terminal, lab_access_of(config, settings)
    )
    config.pluginmanager.register(workers_controller, "jumpstarter-crew")
    config.pluginmanager.register(terminal, "jumpstarter-terminal")
    config.pluginmanager.register(ExitCode(workers_controller, terminal), "jumpstarter-ending")
