"""
The pytest entry point: options, fixtures, hook calls.

A suite that asks for no device pays for an option table and nothing else: whatever knows leases, gRPC or Jumpstarter is
imported by the `jumpstarter` fixture, when the first test asks for a device.

One lease, from here to the wire and back: `device_fixture` asks `Run.device` (run.py), which looks among the sets of
devices at hand (leasing/sets.py) or asks a source (leasing/source.py). The source acquires the leases of all members
or none (leasing/together.py): each is made by `Leases` (leasing/leases.py), is a `OwnLease` (leasing/hold.py), and is
waited for (leasing/waiting.py) through the `Client` (client/v1) of the run's lab (site.py). Then the source has a
`Connector` (leasing/connect.py) make the `Device` (device/): driver clients are made when they are looked up
(device/driver_builder.py), and their calls go through the tunnel (device/blocking_calls.py). The set ends with its last
test (schedule.py), or with the run: leaving the source's context manager gives the boards back.
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

_USAGE_ERROR = "jumpstarter_usage_error"  # in xdist's `workeroutput`


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option table."""
    add_options(parser)
    parser.getgroup("jumpstarter").addoption(
        "--jmp-check",
        action="store_true",
        help="Run nothing: check config, reachability and token, and that every collected test can get its devices",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    from pytest_jumpstarter import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, so that a bad one ends the run before it begins."""
    config.stash[ROLES] = set()
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(_RecordedReports(config), "jumpstarter-herald")
    try:
        config.stash[SETTINGS] = Settings.of(config)
        _register_outputs(config, config.stash[SETTINGS])
    except OptionError as exc:
        raise pytest.UsageError(str(exc)) from exc
    _register_dut(config, config.stash[SETTINGS])
    _register_crew(config, config.stash[SETTINGS])
    _register_each(config, config.stash[SETTINGS])
    _register_retries(config, config.stash[SETTINGS])


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Distribute no tests over processes where none runs."""
    if config.getoption("jmp_check") and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.distload = 0, False
    return (yield)


def _register_dut(config: pytest.Config, settings: Settings) -> None:
    """Offer `dut`, in place of any other plugin's; but where nothing of ours is set, another's is the one meant."""
    others = [plugin for plugin in config.pluginmanager.get_plugins() if not _is_conftest(plugin)]
    if settings.is_any_set or not any(callable(getattr(plugin, "dut", None)) for plugin in others):
        from pytest_jumpstarter import dut

        config.pluginmanager.register(dut, "jumpstarter-dut")


def _is_conftest(plugin: object) -> bool:
    return str(getattr(plugin, "__file__", "")).endswith("conftest.py")


def _register_crew(config: pytest.Config, settings: Settings) -> None:
    """Look after the workers of xdist, in its controller process, where their tests may ask for devices."""
    has_workers = config.getoption("tx", default=None) and config.getoption("dist", default="no") != "no"
    if not has_workers or hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if settings.is_any_set or declared_roles(config.pluginmanager.get_plugins()):
        from pytest_jumpstarter.running.start import start_workers_controller

        start_workers_controller(config, settings)


def _register_each(config: pytest.Config, settings: Settings) -> None:
    if any(setting.option.name == "each" for setting in settings.aimed()):
        from pytest_jumpstarter.collection.parametrize import EACH, EachExporter

        config.stash[EACH] = each = EachExporter(config)
        config.pluginmanager.register(each, "jumpstarter-each")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on each of several boards, where a fixture or the command line says so."""
    if not metafunc.config.stash[ROLES].isdisjoint(metafunc.fixturenames):
        from pytest_jumpstarter.collection.parametrize import parametrise

        parametrise(metafunc)


def _register_retries(config: pytest.Config, settings: Settings) -> None:
    if settings["retries"].value:
        from pytest_jumpstarter.running.retries import RETRIED_PROTOCOL, RetriedProtocol

        config.stash[RETRIED_PROTOCOL] = protocol = RetriedProtocol()
        config.pluginmanager.register(protocol, "jumpstarter-retries")


def _register_outputs(config: pytest.Config, settings: Settings) -> None:
    """Bring in what writes files, if any is asked for, in the process that prints."""
    is_asked = settings.all("report") or settings.find("artifacts") or config.getoption("htmlpath", default=None)
    if is_asked and not hasattr(config, "workerinput"):
        from pytest_jumpstarter.report.files import register_outputs

        register_outputs(config, settings)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show every value in force and where it came from, if any was set."""
    return config.stash[SETTINGS].header()


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: object) -> None:
    """Let no secret be in a traceback through pytest, its plugins and this one."""
    from pytest_jumpstarter.masking import learn_environment, masked

    learn_environment(os.environ)
    masked(excrepr, inside="_pytest._code")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put tests without devices first, then group by device, unless somebody else orders the tests."""
    if _orders(config) and any(devices_of(item).planned for item in items):
        from pytest_jumpstarter.collection.order import arranged

        items[:] = arranged(items)


def _orders(config: pytest.Config) -> bool:
    """Tell whether the order is ours to choose."""
    is_shuffled = config.pluginmanager.hasplugin("randomly") and config.getoption("randomly_reorganize", default=True)
    is_chosen = any(config.getoption(name, default=False) for name in ("failedfirst", "newfirst", "stepwise"))
    return config.stash[SETTINGS]["order"].value == "on" and not is_shuffled and not is_chosen


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse what makes no sense before a test runs; in a worker of xdist, before its tests are known elsewhere."""
    try:
        _prepare(session)
    except pytest.UsageError as exc:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_USAGE_ERROR] = str(exc)
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Refuse in xdist's controller process what a worker refused."""
    if error := getattr(node, "workeroutput", {}).get(_USAGE_ERROR):
        raise pytest.UsageError(error)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Let `-n auto` be the number of workers that can have their devices, unless somebody else says how many."""
    conftests = filter(_is_conftest, config.pluginmanager.get_plugins())
    if config.getoption("collectonly") or any(hasattr(it, "pytest_xdist_auto_num_workers") for it in conftests):
        return None
    from pytest_jumpstarter.collection.auto_workers import number_of_workers

    return number_of_workers(config)


def _prepare(session: pytest.Session) -> None:
    """Check settings and markers; a variable of Jumpstarter's may be there for something else."""
    roles = session.config.stash[ROLES]
    for setting in session.config.stash[SETTINGS].aimed():
        if setting.role not in roles and setting.source != setting.option.variable:
            raise pytest.UsageError(
                f"{setting.source}: no device fixture is named {setting.role!r} (in {setting.role}:{setting.text}); "
                f"there are {', '.join(sorted(roles))}"
            )
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

        session.config.pluginmanager.register(DeviceListing(session.items), "jumpstarter-asked")
    elif session.config.getoption("jmp_check"):
        from pytest_jumpstarter.collection.check import Check

        session.config.pluginmanager.register(Check(session.config), "jumpstarter-check")


class _RecordedReports:
    """Waits for reports with a record of ours, which may come from another process, and brings in what shows it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shows: ReportParts | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Hand the report to those who show a part of it."""
        record = getattr(report, "jumpstarter", None)
        if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
            return (yield)
        from pytest_jumpstarter.report.on_demand import ReportParts

        self._shows = self._shows or ReportParts(self._config)
        return (yield from self._shows.show(report))
