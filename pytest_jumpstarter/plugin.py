"""
The pytest entry point: options, hooks, and what is registered on demand.

A suite that uses no device only loads the option table. Everything that knows leases, gRPC or Jumpstarter is imported
by the `jumpstarter` fixture, when the first test requests a device.

One lease, from here to the lab controller and back:

- `device_fixture` (fixtures.py) calls `Run.device` (running/run.py), which gets the device from a set of devices that
  is already acquired (leasing/sets.py), or from the source (leasing/from_controller.py).
- The source acquires the leases of all members of a set, or none (leasing/acquire.py). `Leases` (leasing/leases.py)
  creates each as an `OwnLease` (leasing/own_lease.py) and waits until it is Ready (leasing/waiting.py), through the
  `Client` (client/v1) of the lab (lab_access.py).
- A `Connector` (leasing/connect.py) makes the `Device` (device/). Driver clients are built on first use
  (device/driver_builder.py); their calls go through a tunnel (device/blocking_calls.py, device/tunnel.py).
- The set is released after its last test (running/schedule.py), or at the end of the run.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.devices_of import RECORD_FORMAT, devices_of
from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.fixtures import console, jumpstarter
from pytest_jumpstarter.options import add_options
from pytest_jumpstarter.roles import (
    MARKER,
    ROLES,
    check_sharing,
    declared_roles,
    needs_of,
)
from pytest_jumpstarter.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from pytest_jumpstarter.report.on_demand import ReportParts

__all__ = ["console", "jumpstarter"]  # fixtures, which pytest finds here; the hooks below it finds by name

_USAGE_ERROR = "jumpstarter_usage_error"  # key in xdist's `workeroutput`


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option table."""
    add_options(parser)
    parser.getgroup("jumpstarter").addoption(
        "--jmp-check",
        action="store_true",
        help="Run no test; check the client config, the connection and the token, and whether every collected test "
        "can get its devices",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    from pytest_jumpstarter import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, so that an invalid one ends the run before it starts."""
    config.stash[ROLES] = set()
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(_RecordedReports(config), "jumpstarter-recorded-reports")
    try:
        config.stash[SETTINGS] = Settings.of(config)
        _register_outputs(config, config.stash[SETTINGS])
    except OptionError as exc:
        raise pytest.UsageError(str(exc)) from exc
    _register_dut(config, config.stash[SETTINGS])
    _start_workers_controller(config, config.stash[SETTINGS])
    _register_each_exporter(config, config.stash[SETTINGS])
    _register_retries(config, config.stash[SETTINGS])


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """With `--jmp-check`, which runs no test, start no workers of xdist."""
    if config.getoption("jmp_check") and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.distload = 0, False
    return (yield)


def _register_dut(config: pytest.Config, settings: Settings) -> None:
    """Register the fixture `dut`, unless another plugin has one and no setting of ours is set."""
    others = [plugin for plugin in config.pluginmanager.get_plugins() if not _is_conftest(plugin)]
    if settings.is_any_set or not any(callable(getattr(plugin, "dut", None)) for plugin in others):
        from pytest_jumpstarter import dut

        config.pluginmanager.register(dut, "jumpstarter-dut")


def _is_conftest(plugin: object) -> bool:
    return str(getattr(plugin, "__file__", "")).endswith("conftest.py")


def _start_workers_controller(config: pytest.Config, settings: Settings) -> None:
    """Start what serves the workers of xdist, in its controller process, if their tests may use devices."""
    has_workers = config.getoption("tx", default=None) and config.getoption("dist", default="no") != "no"
    if not has_workers or hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if settings.is_any_set or declared_roles(config.pluginmanager.get_plugins()):
        from pytest_jumpstarter.running.start import start_workers_controller

        start_workers_controller(config, settings)


def _register_each_exporter(config: pytest.Config, settings: Settings) -> None:
    if any(setting.option.name == "each" for setting in settings.of_roles()):
        from pytest_jumpstarter.collection.parametrize import EACH, EachExporter

        config.stash[EACH] = each = EachExporter(config)
        config.pluginmanager.register(each, "jumpstarter-each")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests once for each of several boards, if a fixture or an option requests it."""
    if not metafunc.config.stash[ROLES].isdisjoint(metafunc.fixturenames):
        from pytest_jumpstarter.collection.parametrize import parametrize

        parametrize(metafunc)


def _register_retries(config: pytest.Config, settings: Settings) -> None:
    if settings["retries"].value:
        from pytest_jumpstarter.running.retries import RETRIED_PROTOCOL, RetriedProtocol

        config.stash[RETRIED_PROTOCOL] = protocol = RetriedProtocol()
        config.pluginmanager.register(protocol, "jumpstarter-retries")


def _register_outputs(config: pytest.Config, settings: Settings) -> None:
    """Register the plugins that write files, in the process that prints, if a file is requested."""
    is_requested = settings.all("report") or settings.find("artifacts") or config.getoption("htmlpath", default=None)
    if is_requested and not hasattr(config, "workerinput"):
        from pytest_jumpstarter.report.files import register_outputs

        register_outputs(config, settings)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show every value in force with its source, if any was set."""
    return config.stash[SETTINGS].header()


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: object) -> None:
    """Mask the secrets in the traceback of an internal error."""
    from pytest_jumpstarter.masking import learn_environment, masked

    learn_environment(os.environ)
    masked(excrepr, inside="_pytest._code")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests without devices first, then group by device, unless another option or plugin orders the tests."""
    if _may_reorder(config) and any(devices_of(item).planned for item in items):
        from pytest_jumpstarter.collection.order import grouped_by_device

        items[:] = grouped_by_device(items)


def _may_reorder(config: pytest.Config) -> bool:
    """Return whether `--jmp-order` is on and no other option or plugin orders the tests."""
    is_shuffled = config.pluginmanager.hasplugin("randomly") and config.getoption("randomly_reorganize", default=True)
    is_chosen = any(config.getoption(name, default=False) for name in ("failedfirst", "newfirst", "stepwise"))
    return config.stash[SETTINGS]["order"].value == "on" and not is_shuffled and not is_chosen


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Check settings and markers, and register the plugins that the collected tests need."""
    try:
        _check_settings(session)
        _register_for_tests(session)
    except pytest.UsageError as exc:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_USAGE_ERROR] = str(exc)
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Raise a worker's usage error in the controller process of xdist, too."""
    if error := getattr(node, "workeroutput", {}).get(_USAGE_ERROR):
        raise pytest.UsageError(error)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return for `-n auto` how many workers can have their devices, unless a conftest implements this hook."""
    conftests = filter(_is_conftest, config.pluginmanager.get_plugins())
    if config.getoption("collectonly") or any(hasattr(it, "pytest_xdist_auto_num_workers") for it in conftests):
        return None
    from pytest_jumpstarter.collection.auto_workers import number_of_workers

    return number_of_workers(config)


def _check_settings(session: pytest.Session) -> None:
    """Raise a usage error for settings of unknown roles; Jumpstarter's variables may be set for another purpose."""
    roles = session.config.stash[ROLES]
    for setting in session.config.stash[SETTINGS].of_roles():
        if setting.role not in roles and setting.source != setting.option.variable:
            raise pytest.UsageError(
                f"{setting.source}: no device fixture is named {setting.role!r} (in {setting.role}:{setting.text}); "
                f"there are {', '.join(sorted(roles))}"
            )


def _register_for_tests(session: pytest.Session) -> None:
    """Check the markers of the collected tests, and register the plugins that these tests need."""
    try:
        by_role = [need for item in session.items for need in needs_of(item, devices_of(item).planned).items()]
        workers = getattr(session.config, "workerinput", {}).get("workercount", 1)
        check_sharing(session.config.stash[SETTINGS], sorted({role for role, _ in by_role}), workers=workers)
    except OptionError as exc:
        raise pytest.UsageError(str(exc)) from exc
    needs = [need for _, need in by_role]
    if any(item.get_closest_marker("jumpstarter") for item in session.items) or any(need.requires for need in needs):
        from pytest_jumpstarter.collection.requirements import Requirements

        session.config.pluginmanager.register(Requirements(session), "jumpstarter-requirements")
    if needs:
        from pytest_jumpstarter.running.schedule import SCHEDULE, Schedule

        session.config.stash[SCHEDULE] = schedule = Schedule(session, by_role)
        session.config.pluginmanager.register(schedule, "jumpstarter-schedule")
    if session.config.getoption("collectonly") and (needs or session.config.stash[SETTINGS].is_any_set):
        from pytest_jumpstarter.collection.collect_only import DeviceListing

        session.config.pluginmanager.register(DeviceListing(session.items), "jumpstarter-device-listing")
    elif session.config.getoption("jmp_check"):
        from pytest_jumpstarter.collection.check import Check

        session.config.pluginmanager.register(Check(session.config), "jumpstarter-check")


class _RecordedReports:
    """Imports what shows the record on a report (evidence/record.py) when the first report has one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._parts: ReportParts | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Pass a report with a record to the parts of `report` that show it; workers of xdist send theirs here."""
        record = getattr(report, "jumpstarter", None)
        if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
            return (yield)
        from pytest_jumpstarter.report.on_demand import ReportParts

        self._parts = self._parts or ReportParts(self._config)
        return (yield from self._parts.show(report))
