"""What joins a run to pytest, from the moment the first test asks for a device: hooks, reports, signals."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.request import LeaseIds
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.report.artifacts import Artifacts
from pytest_jumpstarter.report.collect import BuiltIn
from pytest_jumpstarter.report.device_errors import EXIT_CODE
from pytest_jumpstarter.report.evidence import Evidence
from pytest_jumpstarter.report.faults import Faults
from pytest_jumpstarter.report.hold import HoldOnFailure
from pytest_jumpstarter.report.masked import Masked
from pytest_jumpstarter.report.no_device import Skips
from pytest_jumpstarter.report.outcome import Outcome
from pytest_jumpstarter.report.recorder import Recorder
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.run import Run
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.signals import Interrupter, give_lines
from pytest_jumpstarter.site import site_of
from pytest_jumpstarter.workers.link import ADDRESS, RUN, Link

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted
    from pytest_jumpstarter.retries import Retries
    from pytest_jumpstarter.workers.crew import Crew


def start_run(session: pytest.Session, settings: Settings) -> Run:
    """Start the run of this process, in the setup of a test: from here on there are hooks of ours for each test."""
    config = session.config
    if (ending := config.pluginmanager.get_plugin("jumpstarter-ending")) is not None:
        return cast("Run", ending.run)  # the fixture is made again, since a test runs again
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its notices go to stderr, past pytest and in nobody's interest
    given = getattr(config, "workerinput", {})
    worker = given.get("workerid", "main")
    link = Link(given[ADDRESS], worker) if given.get(ADDRESS) else None
    terminal = Terminal(config, elsewhere=link.tell if link else None)
    faults, moment = Faults(_current_test(session)), Moment(config)
    events = HookEvents(config, terminal, faults, moment, link)
    site = site_of(config, settings, lab_elsewhere=link.lab if link else None)
    run = Run(settings, events, site=site, ids=LeaseIds(run=given.get(RUN, ""), worker=worker))
    faults.healths = run.healths
    plugins: dict[str, object] = {
        "faults": faults,
        "outcome": Outcome(),
        "terminal": terminal,
        "moment": moment,
        "ending": Ending(run, terminal),
    }
    if settings["no-device"].value == "skip":
        plugins["skips"] = events.skips = Skips()
    if (retries := config.pluginmanager.get_plugin("jumpstarter-retries")) is not None:
        cast("Retries", retries).join(run, faults)
    hold = settings.find("hold-on-failure")
    can_hold = run.mode == "lease" or (run.mode == "lab" and worker == "main")  # others end with what they have
    if hold is not None and can_hold:
        plugins["hold"] = HoldOnFailure(run, faults.roles_of, hold.value)  # after faults: it wants their verdict
    fatal = [setting.value for setting in settings.all("console-fatal")]
    plugins["watch"] = evidence = Evidence(faults.uses, is_eager=_is_eager(settings), fatal=_patterns(fatal))
    plugins["recorder"] = Recorder(worker, faults.uses)  # last: what the others put on a report is there
    if (folder := settings.find("artifacts")) is not None:
        plugins["collect"] = BuiltIn()
        root = Path(config.invocation_params.dir, folder.value)
        plugins["artifacts"] = Artifacts(root, settings["console"].value, evidence, faults.current)
    learn_environment(settings.environ)
    plugins["masked"] = Masked(config)  # and so nothing is put there after it
    for name, plugin in plugins.items():
        config.pluginmanager.register(plugin, f"jumpstarter-{name}")
    atexit.register(gc.freeze)  # else the interpreter's last act is to look for cycles in all that was imported, twice
    config.add_cleanup(run.finish)  # the second layer: pytest_unconfigure, whatever became of the fixture
    return run


def _patterns(fatal: list[str]) -> list[str] | None:
    """Return what the settings say is fatal; None where they say nothing."""
    return [pattern for pattern in fatal if pattern != "off"] if fatal else None


def _is_eager(settings: Settings) -> bool:
    """Tell whether consoles are recorded though no test may open them."""
    console = settings["console"]
    return not console.is_default and console.value != "off"


def start_crew(config: pytest.Config, settings: Settings) -> None:
    """Start what xdist's controller process does for its workers, where devices may be asked for."""
    from pytest_jumpstarter.workers.crew import Crew

    terminal = Terminal(config)
    crew = Crew(config, settings, terminal, site_of(config, settings))
    for name, plugin in {"crew": crew, "terminal": terminal, "crew-ending": Ending(crew, terminal)}.items():
        config.pluginmanager.register(plugin, f"jumpstarter-{name}")


def _current_test(session: pytest.Session) -> pytest.Item | None:
    """Return the test whose setup is under way, of whose start we have not heard."""
    node_id = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return next((item for item in session.items if item.nodeid == node_id), None)


class HookEvents(Events):
    """
    Pass on what happens to the hooks and to the terminal.

    Attributes:
        skips: Skips tests for which no device is to be had; None where these fail.
    """

    skips: Skips | None = None

    def __init__(
        self, config: pytest.Config, terminal: Terminal, faults: Faults, moment: Moment, link: Link | None
    ) -> None:
        self._config = config
        self._link = link
        self._moment = moment
        self._hook = config.hook
        self._terminal = terminal
        self._faults = faults
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
        item, health = self._faults.current, self._faults.healths.get(role)

        def is_waiting() -> bool:
            is_the_same = self._faults.current is item and self._faults.healths.get(role) is health
            return is_the_same and self._moment.is_interruptible

        if item is not None and self._faults.uses(item, role):
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


class Moment:
    """
    Knows whether a test may be interrupted now: in its own code, and while no person debugs.

    An error that is raised where pytest itself is at work, which tells of a failure for seconds on a busy machine,
    would end the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._is_debugged = self._is_always_debugged = config.getoption("usepdb", default=False)
        self._is_in_phase = True  # we come in the middle of a setup

    @property
    def is_interruptible(self) -> bool:
        """Whether the main thread is in setup, call or teardown of a test, and at no debugger's prompt."""
        return self._is_in_phase and not self._is_debugged

    def pytest_enter_pdb(self) -> None:
        """Note that there is a prompt; with `--pdb` there may be one at any time."""
        self._is_debugged = True

    def pytest_leave_pdb(self) -> None:
        """Note that the test goes on."""
        self._is_debugged = self._is_always_debugged

    @pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: everybody else's code is not the test's
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """Note that a phase goes on."""
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Note that a phase goes on."""
        return (yield from self._phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """Note that a phase goes on."""
        return (yield from self._phase())

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """Note the end of the setup in which we came; mend an error after unittest's plugin has put its own there."""
        if call.when == "setup":  # a subtest's report is made while the test goes on
            self._is_in_phase = False
        if call.excinfo is not None:
            give_lines(call.excinfo)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that a signal ended it."""
        self._is_in_phase = False
        give_lines(excinfo)

    def _phase(self) -> Generator[None, Any, Any]:
        self._is_in_phase = True
        try:
            return (yield)
        finally:
            self._is_in_phase = False


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
            if not self.run.received:
                raise
            self._terminal.say(f"in teardown, after the boards were given back: {type(exc).__name__}: {exc}")
            return None
        finally:
            if self.run.received:
                session.exitstatus = 128 + self.run.received
            elif self._terminal.failures and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = EXIT_CODE
