"""
Prepares the run for the tests that were collected: checks settings and markers, and registers what the tests need.

A run without options, devices and markers of this plugin never imports it.
"""

from __future__ import annotations

import pytest

from pytest_jumpstarter.devices_of import Needs, check_sharing, needs_of
from pytest_jumpstarter.option_errors import OptionError
from pytest_jumpstarter.report.safe_output import watch_output
from pytest_jumpstarter.roles import ROLES, STATES, USAGE_ERROR, roles_of
from pytest_jumpstarter.settings import SETTINGS


def prepare(session: pytest.Session) -> None:
    """
    Check settings and markers, and register the plugins that the collected tests need.

    Raises:
        pytest.UsageError: A setting or marker is wrong, or these tests cannot run in this process.
    """
    try:
        _check_settings(session)
        _register_for_tests(session)
    except pytest.UsageError as exc:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[USAGE_ERROR] = str(exc)
        raise


def _check_settings(session: pytest.Session) -> None:
    """Raise a usage error for settings of unknown roles and states; Jumpstarter's variables may be set for others."""
    roles = session.config.stash[ROLES]
    for setting in session.config.stash[SETTINGS].of_roles():
        if setting.role not in roles and setting.source != setting.option.variable:
            raise pytest.UsageError(
                f"{setting.source}: no device fixture is named {setting.role!r} (in {setting.role}:{setting.text}); "
                f"there are {', '.join(sorted(roles))}"
            )
    if session.config.stash[STATES] or session.config.stash[SETTINGS].all("state"):
        from pytest_jumpstarter.states.planned import check_states

        try:
            check_states(session.config)
        except OptionError as exc:
            raise pytest.UsageError(str(exc)) from exc


def _register_for_tests(session: pytest.Session) -> None:
    """Register the plugins that the collected tests need."""
    _forget_last_collection(session.config)
    by_role = _needs_by_role(session) if any(roles_of(item) for item in session.items) else []
    if by_role:
        _require_support(session)
    needs = [need for _, need in by_role]
    if any(item.get_closest_marker("jumpstarter") for item in session.items) or any(need.requires for need in needs):
        from pytest_jumpstarter.collection.requirements import Requirements

        session.config.pluginmanager.register(Requirements(session), "jumpstarter-requirements")
    if needs:
        watch_output(session.config)
        from pytest_jumpstarter.running import SCHEDULE
        from pytest_jumpstarter.running.schedule import Schedule

        session.config.stash[SCHEDULE] = schedule = Schedule(session, by_role)
        session.config.pluginmanager.register(schedule, "jumpstarter-schedule")
        if session.config.stash[STATES]:
            from pytest_jumpstarter.states.board_states import board_states

            board_states(session)  # after the schedule: states end before devices are released
    if session.config.getoption("collectonly") and (needs or session.config.stash[SETTINGS].is_any_set):
        from pytest_jumpstarter.collection.collect_only import DeviceListing

        session.config.pluginmanager.register(DeviceListing(session.items), "jumpstarter-device-listing")
    elif session.config.getoption("jmp_check"):
        from pytest_jumpstarter.collection.check import Check

        session.config.pluginmanager.register(Check(session.config), "jumpstarter-check")


def _require_support(session: pytest.Session) -> None:
    """Raise a usage error if tests with devices cannot run in this process."""
    from pytest_jumpstarter.host.unsupported import reason_against_devices

    with_devices = [item for item in session.items if roles_of(item)]
    is_marked = any(item.get_closest_marker("forked") for item in with_devices)
    is_forked = session.config.pluginmanager.hasplugin("pytest_forked") and (
        is_marked or session.config.getoption("forked", default=False)
    )
    is_run = not session.config.getoption("collectonly") and not session.config.getoption("jmp_check")
    if is_run and (reason := reason_against_devices(is_forked=is_forked)):
        raise pytest.UsageError(reason)


def _forget_last_collection(config: pytest.Config) -> None:
    """Unregister what was registered for tests that were collected before, by a host that collects more than once."""
    for name in ("requirements", "schedule", "board-states", "device-listing", "check"):
        if (plugin := config.pluginmanager.get_plugin(f"jumpstarter-{name}")) is not None:
            config.pluginmanager.unregister(plugin)
            if name == "schedule":
                from pytest_jumpstarter.running import SCHEDULE

                del config.stash[SCHEDULE]
            elif name == "board-states":
                from pytest_jumpstarter.states.board_states import BOARD_STATES

                del config.stash[BOARD_STATES]


def _needs_by_role(session: pytest.Session) -> list[tuple[str, Needs]]:
    """
    Return what the device of each role must have for each test that requests one.

    Raises:
        pytest.UsageError: A marker is invalid, or several roles or workers request the same single device.
    """
    try:
        by_role = [need for item in session.items for need in needs_of(item, roles_of(item)).items()]
        workers = getattr(session.config, "workerinput", {}).get("workercount", 1)
        check_sharing(session.config.stash[SETTINGS], sorted({role for role, _ in by_role}), workers=workers)
    except OptionError as exc:
        raise pytest.UsageError(str(exc)) from exc
    return by_role
