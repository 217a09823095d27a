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
from itertools import filterfalse
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.fixtures import console, device_fixture, jumpstarter, record_metric
from pytest_jumpstarter.option_errors import OptionError
from pytest_jumpstarter.options import add_options
from pytest_jumpstarter.roles import (
    COLLECTED,
    MARKER,
    RECORD_FORMAT,
    ROLES,
    STATES,
    USAGE_ERROR,
    arguments_of,
    declared_roles,
    roles_of,
    uses_device,
)
from pytest_jumpstarter.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from pytest_jumpstarter.report.on_demand import ReportParts

__all__ = [
    "console",
    "jumpstarter",
    "record_metric",
]  # fixtures, which pytest finds here; the hooks below it finds by name

_KEPT_ORDER: pytest.StashKey[str] = pytest.StashKey()
"""Why tests are not grouped by device; empty if they are."""

_CONCERNS_US: pytest.StashKey[bool] = pytest.StashKey()
"""Whether this run uses this plugin in any way."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the option table; if an option is used, prepare gRPC, before plugins and conftest files import it."""
    config = pluginmanager.get_plugin("pytestconfig")
    if config is not None and _uses_options(config):
        from pytest_jumpstarter.host.grpc_import import before_grpc
        from pytest_jumpstarter.report.no_session import watch_start

        before_grpc()
        watch_start(config)
    add_options(parser)
    parser.getgroup("jumpstarter").addoption(
        "--jmp-check",
        action="store_true",
        help="Run no test; check the client config, the connection and the token, and whether every collected test "
        "can get its devices",
    )


def _uses_options(config: pytest.Config) -> bool:
    """Return whether an option of ours seems to be set; options are not parsed yet."""
    args = [*config.invocation_params.args, os.environ.get("PYTEST_ADDOPTS", "")]
    if "JUMPSTARTER_HOST" in os.environ or any("--jmp-" in str(arg) for arg in args):
        return True
    if getattr(config, "inipath", None) is None:  # a plugin given to `pytest.main` is registered before pytest sets it
        return False
    from pytest_jumpstarter.pytest_private import has_ini_value

    return has_ini_value(config, "jmp_")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    from pytest_jumpstarter import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, so that an invalid one ends the run before it starts."""
    config.stash[ROLES], config.stash[STATES] = set(), {}
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(_RecordedReports(config), "jumpstarter-recorded-reports")
    try:
        config.stash[SETTINGS] = Settings.of(config)
        _register_outputs(config, config.stash[SETTINGS])
    except OptionError as exc:
        raise pytest.UsageError(str(exc)) from exc
    if config.stash[SETTINGS].is_any_set:
        from pytest_jumpstarter.report.safe_output import watch_output

        watch_output(config)
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
    """
    Register the fixture `dut`, unless another plugin has one.

    If a setting of ours is set, only a `dut` that yields a device of ours counts, such as that of a shared plugin.
    """
    plugins = config.pluginmanager.get_plugins()
    found = [each.dut for each in plugins if callable(getattr(each, "dut", None)) and not _is_conftest(each)]
    overrides = [fixture for fixture in found if "dut" in arguments_of(fixture)]
    others = [fixture for fixture in found if fixture not in overrides]
    if others and not settings.is_any_set:
        return
    if any(uses_device(fixture, filterfalse(_is_conftest, plugins)) for fixture in others):
        return
    # Overrides are registered again, because the plugin that is registered last overrides.
    for number, fixture in enumerate((device_fixture(), *overrides)):
        module = ModuleType("dut")
        module.dut = fixture  # type: ignore[attr-defined]
        config.pluginmanager.register(module, f"jumpstarter-dut-{number}")


def _is_conftest(plugin: object) -> bool:
    return str(getattr(plugin, "__file__", "")).endswith("conftest.py")


def _start_workers_controller(config: pytest.Config, settings: Settings) -> None:
    """Start what serves the workers of xdist, in its controller process, if their tests may use devices."""
    has_workers = config.getoption("tx", default=None) and config.getoption("dist", default="no") != "no"
    if not has_workers or hasattr(config, "workerinput") or config.getoption("collectonly"):
        return
    if settings.is_any_set or declared_roles(config.pluginmanager.get_plugins()):
        from pytest_jumpstarter.host.grpc_import import before_grpc

        before_grpc()
        from pytest_jumpstarter.running.start import start_workers_controller

        start_workers_controller(config, settings)


def _register_each_exporter(config: pytest.Config, settings: Settings) -> None:
    if settings.all("each"):
        from pytest_jumpstarter.collection.parametrize import EACH, EachExporter

        config.stash[EACH] = each = EachExporter(config)
        config.pluginmanager.register(each, "jumpstarter-each")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests once for each of several boards, if a fixture or an option requests it."""
    if not metafunc.config.stash[ROLES].isdisjoint(metafunc.fixturenames):
        from pytest_jumpstarter.collection.parametrize import parametrize

        parametrize(metafunc)


def _register_retries(config: pytest.Config, settings: Settings) -> None:
    if not settings["retries"].is_default and settings["retries"].value:  # a default is not parsed in each run
        from pytest_jumpstarter.running.retries import RETRIED_PROTOCOL, RetriedProtocol

        config.stash[RETRIED_PROTOCOL] = protocol = RetriedProtocol()
        config.pluginmanager.register(protocol, "jumpstarter-retries")


def _register_outputs(config: pytest.Config, settings: Settings) -> None:
    """Register the plugins that write files, in the process that prints, if a file is requested."""
    ours = settings.all("report") or any(settings.find(name) for name in ("artifacts", "history", "metrics"))
    is_requested = ours or config.getoption("htmlpath", default=None)
    if is_requested and not hasattr(config, "workerinput"):
        from pytest_jumpstarter.report.files import register_outputs

        register_outputs(config, settings)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show every value in force with its source, if any was set."""
    return config.stash[SETTINGS].header()


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: object) -> None:
    """Make the traceback of an internal error safe to show."""
    from pytest_jumpstarter.masking import learn_environment
    from pytest_jumpstarter.masking.structures import make_safe

    learn_environment(os.environ)
    make_safe(excrepr, inside=("_pytest._code",), kept=("style",))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the order of collection, so that another order can be told from it."""
    item.session.stash.setdefault(COLLECTED, []).append(item)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the tests in order, check settings and markers, and register the plugins that the tests need."""
    _arrange(session)
    if _concerns_us(session):
        from pytest_jumpstarter.collection.preparation import prepare

        prepare(session)


def _concerns_us(session: pytest.Session) -> bool:
    """Return whether an option of ours is set, or a test requests a device or has our marker, or did so before."""
    stash = session.config.stash
    if not stash.get(_CONCERNS_US, False):  # once it does, a later collection must forget what was registered
        is_set = stash[SETTINGS].is_any_set or stash[STATES] or session.config.getoption("jmp_check")
        stash[_CONCERNS_US] = bool(is_set) or any(
            roles_of(item) or item.get_closest_marker("jumpstarter") for item in session.items
        )
    return stash[_CONCERNS_US]


def _arrange(session: pytest.Session) -> None:
    """Put tests without devices first, then group by device; this is after all others that may order the tests."""
    order = session.config.stash[SETTINGS]["order"]
    if order.value != "off" and any(roles_of(item) for item in session.items):
        from pytest_jumpstarter.collection.order import arrange

        session.config.stash[_KEPT_ORDER] = arrange(session)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Show why tests are not grouped by device."""
    reason = config.stash.get(_KEPT_ORDER, "")
    is_shown = reason and config.option.verbose >= 0
    return [f"jumpstarter: tests keep their order ({reason}), so boards may be held longer"] if is_shown else []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Raise a worker's usage error in the controller process of xdist, too."""
    if error := getattr(node, "workeroutput", {}).get(USAGE_ERROR):
        raise pytest.UsageError(error)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return for `-n auto` how many workers can have their devices, unless a conftest implements this hook."""
    conftests = filter(_is_conftest, config.pluginmanager.get_plugins())
    if config.getoption("collectonly") or any(hasattr(it, "pytest_xdist_auto_num_workers") for it in conftests):
        return None
    from pytest_jumpstarter.collection.auto_workers import number_of_workers

    return number_of_workers(config)


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
        if self._parts is None:
            from pytest_jumpstarter.report.on_demand import ReportParts

            self._parts = ReportParts(self._config)
        return (yield from self._parts.show(report))
