"""
`--jmp-check`: run no test, and show whether the lab can serve the suite.

The exit code is 0 only if every collected test can get its devices, at once or after a wait.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.collection.check_machine import clock_fact, machine_facts
from pytest_jumpstarter.collection.check_sheet import CheckSheet, Fact
from pytest_jumpstarter.devices_of import UNSEEN, devices_of, needs_of, wanted_of
from pytest_jumpstarter.errors import ConfigError, JumpstarterError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.host.grpc_import import before_grpc
from pytest_jumpstarter.lab_access import lab_access_of
from pytest_jumpstarter.leasing.availability import Availability, Candidates, candidates_of_lease
from pytest_jumpstarter.leasing.connect import DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds
from pytest_jumpstarter.leasing.patience import patiently
from pytest_jumpstarter.report.junit_run import listed
from pytest_jumpstarter.report.run_end import run_end
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.run import Run
from pytest_jumpstarter.running.schedule import sets_of
from pytest_jumpstarter.selector import Selector
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted

_COLUMNS = ("role", "requests", "match", "online", "free", "leased by")


class Check:
    """Runs instead of the tests; registered if `--jmp-check` is set."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._sheet = CheckSheet(config.pluginmanager.getplugin("terminalreporter"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Check the lab and show the result; run no test."""
        self._sheet.title("jumpstarter check")
        run = self._run()
        try:
            impossible = self._check(run, session.items)
        finally:
            run.finish()
        self._show(session.items, impossible)
        return True

    def _run(self) -> Run:
        """Return the run that `--jmp-each` started during collection, or a new one."""
        if (run := self._config.stash.get(RUN, None)) is not None:
            return run
        before_grpc()
        settings = self._config.stash[SETTINGS]
        return Run(
            settings,
            _RequestHooks(self._config),
            lab_access=lab_access_of(self._config, settings),
            ids=LeaseIds(worker="check"),
            device_settings=DeviceSettings(),
        )

    def _check(self, run: Run, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Show the state of the lab, and return the tests that can never get their devices, with the reason."""
        tests = [item for item in items if devices_of(item).planned]
        self._sheet.facts(machine_facts(self._config.stash[SETTINGS]))
        try:
            check = _LabCheck(run, self._sheet) if run.has_leases else _ExporterCheck(run, self._sheet)
        except JumpstarterError as exc:
            self._sheet.row("error", str(exc), is_bad=True)
            return dict.fromkeys(tests, "")  # the row above has the reason of all
        return check.impossible(tests)

    def _show(self, items: Sequence[pytest.Item], impossible: Mapping[pytest.Item, str]) -> None:
        """Show the tests that cannot get their devices, those that could not be checked, and the verdict."""
        count = sum(bool(devices_of(item).planned) for item in items)
        unseen = [item.nodeid for item in items if devices_of(item).may_look_up_more]
        for problem in self._sheet.problems if count else ():
            run_end(self._config).add_problem("check failed", "", problem)
        for reason in filter(None, dict.fromkeys(impossible.values())):
            tests = [item.nodeid for item, why in impossible.items() if why == reason]
            self._sheet.reason(reason, tests)
            run_end(self._config).add_problem("check failed", listed(tests), reason)
        if unseen:
            self._sheet.note(f"not checked: {UNSEEN}", unseen)
        if not count and unseen:
            self._sheet.verdict(f"no test is known to need a device; {len(unseen)} may request one while they run")
        elif not count:
            self._sheet.verdict("no test needs a device")
        elif impossible:
            self._sheet.verdict(f"tests that need devices: {count}; {len(impossible)} cannot get theirs", is_bad=True)
        else:
            is_bad = bool(self._sheet.problems)
            end = "; but see what is marked ✗" if is_bad else ""
            self._sheet.verdict(f"tests that need devices: {count}; all can get theirs{end}", is_bad=is_bad)


class _RequestHooks(Events):
    """Calls the hook that may change a request, and no other hook, because nothing is leased."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Call `pytest_jumpstarter_lease_request`."""
        self._config.hook.pytest_jumpstarter_lease_request(request=request, role=role, config=self._config)


class _LabCheck:
    """
    The check of devices that are leased from a lab controller.

    Raises:
        JumpstarterError: The lab controller cannot be used.
    """

    def __init__(self, run: Run, sheet: CheckSheet) -> None:
        self._run = run
        self._sheet = sheet
        self._requested: dict[Wanted, Wanted] = {}  # after the hooks
        self._candidates: dict[Wanted, Candidates] = {}
        self._shortages: dict[tuple[Wanted, ...], str] = {}
        config = run.lab_access.config
        sheet.facts(_access(config))
        self._client: Client = run.client
        start = real_time.monotonic()
        ask = partial(Availability.ask, self._client)
        wait = run.settings["wait"].value
        self._availability = patiently(ask, wait=wait, has_answered=self._client.has_answered)
        elapsed = (real_time.monotonic() - start) * 1000
        sheet.row("policies", "cannot be seen: the lab may refuse this client a board that it lists")
        number = len(self._availability.exporters)
        sheet.row("answer", f"{number} exporter{'s' * (number != 1)}; two calls took {elapsed:.0f} ms")
        if not (config.driver_allow or config.driver_unsafe):
            raise ConfigError(
                f"no driver client is allowed: drivers.allow of {config.source} is empty; add jumpstarter_driver_*"
            )

    def impossible(self, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Show a table of what the tests request, and return the tests that cannot get it, with the reason."""
        by_test = {item: devices_of(item).wanted for item in items}
        for wanted in dict.fromkeys(wanted for devices in by_test.values() for wanted in devices.values()):
            self._find_candidates(wanted)
        self._sheet.table(_COLUMNS, [_row(wanted, candidates) for wanted, candidates in self._candidates.items()])
        sets = sets_of(by_test.values())
        by_role = {role: wanted for devices in by_test.values() for role, wanted in devices.items()}
        reasons = {}
        for item, devices in by_test.items():
            others = {role: by_role[role] for role in sets.get(next(iter(devices), ""), ())}
            reasons[item] = self._reason(item, devices) or self._shortage(others | devices)
        return {item: reason for item, reason in reasons.items() if reason}

    def _find_candidates(self, wanted: Wanted) -> None:
        try:
            self._requested[wanted] = requested = self._run.begin().foresee(wanted)
            of = self._availability.of if wanted.lease is None else partial(candidates_of_lease, self._client)
            self._candidates[wanted] = of(requested)
        except JumpstarterError as exc:
            self._candidates[wanted] = Candidates(problem=str(exc))

    def _reason(self, item: pytest.Item, devices: Mapping[str, Wanted]) -> str:
        """Return why a test cannot get one of its devices; empty if it can get each of them."""
        for role in devices_of(item).planned:
            if role not in devices:
                return _invalid(item, role)
            if problem := self._candidates[devices[role]].problem:
                return f"{role}: {problem}"
        for role, needs in needs_of(item, devices_of(item).planned).items():
            for selector in map(Selector.parse, needs.labels):
                if not any(selector.matches(each.labels) for each in self._candidates[devices[role]].enabled):
                    missing = f"no exporter for {devices[role]} matches {selector}, which the marker requires"
                    return f"{role}: {missing}, so the test is always skipped; change the marker or the selector"
        return ""

    def _shortage(self, devices: Mapping[str, Wanted]) -> str:
        """Return why devices that are leased together cannot be leased together, although each alone can."""
        able = [wanted for wanted in devices.values() if not self._candidates[wanted].problem and wanted.lease is None]
        requested = tuple(self._requested[wanted] for wanted in able)
        if requested not in self._shortages:  # it is the same for many tests
            self._shortages[requested] = self._availability.shortage(requested)
        return self._shortages[requested]


class _ExporterCheck:
    """The check of a single exporter that is used without a lease: it connects to it."""

    def __init__(self, run: Run, sheet: CheckSheet) -> None:
        self._run = run
        self._sheet = sheet
        modes = {"shell": "inside a jmp shell, at JUMPSTARTER_HOST", "direct": "one exporter, without a lab"}
        sheet.row("mode", modes[run.mode])

    def impossible(self, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Connect to each device that the tests want, and return the tests that cannot get theirs, with the reason."""
        tried: dict[Wanted, str] = {}
        impossible = {}
        for item in items:
            devices = devices_of(item).wanted
            for role in devices_of(item).planned:
                reason = _invalid(item, role) if role not in devices else ""
                if not reason and devices[role] not in tried:
                    tried[devices[role]] = self._connect(devices[role])
                if reason := reason or tried[devices[role]]:
                    impossible[item] = reason
        return impossible

    def _connect(self, wanted: Wanted) -> str:
        """Connect to a device; return why that is impossible, or an empty text."""
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with self._run.device(wanted) as device:
                    self._sheet.row(wanted.role, f"{device}: {', '.join(device.drivers) or 'no drivers'}")
            for warning in caught:
                self._sheet.row("", str(warning.message))
            return ""
        except JumpstarterError as exc:
            return f"{wanted.role}: {exc}"
        finally:
            self._run.sets.end([wanted.role])


def _access(config: ClientConfig) -> Iterator[Fact]:
    """Yield what is known of the client and its connection to the lab controller."""
    from pytest_jumpstarter.client.v1 import Proxy
    from pytest_jumpstarter.client.v1.token import token_issued

    yield Fact("client", f"{config.name} in namespace {config.namespace}, from {config.source}")
    proxy = Proxy.in_force(config.endpoint)
    yield Fact("lab", f"{config.endpoint}, {f'through {proxy}' if proxy else 'without a proxy'}")
    if config.tls.insecure:
        yield Fact("TLS", "trusts the first certificate that the server sends")
    else:
        yield Fact("TLS", f"trusts {'tls.ca' if config.tls.ca else 'the certificate authorities of this machine'}")
    yield _token(config)
    if (clock := clock_fact(token_issued(config.token))) is not None:
        yield clock


def _token(config: ClientConfig) -> Fact:
    from datetime import UTC, datetime, timedelta

    from pytest_jumpstarter.client.v1.token import token_expiry

    expiry = token_expiry(config.token)
    if expiry is None:
        return Fact("token", "its expiry is unknown")
    left = expiry - datetime.now(UTC)
    when = f"{expiry.astimezone():%Y-%m-%d %H:%M}"
    if left <= timedelta(0) and config.refresh_token:
        return Fact("token", f"expired on {when}; the refresh_token gets a new one")
    if left <= timedelta(0):
        return Fact("token", f"expired on {when}; run `jmp login`, or put a new one where it came from", is_bad=True)
    remaining = f"{left.days} days" if left.days >= 2 else f"{left.total_seconds() / 3600:.1f} hours"
    return Fact("token", f"valid until {when} ({remaining})")


def _row(wanted: Wanted, candidates: Candidates) -> Sequence[Any]:
    by = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in candidates.leased_by.items())
    counts = (len(candidates.matching), len(candidates.usable), len(candidates.free))
    return wanted.role, str(wanted), *counts, by


def _invalid(item: pytest.Item, role: str) -> str:
    """Return why the request of a test for a role is invalid; empty if it is valid."""
    try:
        wanted_of(item, role, devices_of(item).planned[role])
    except ConfigError as exc:
        return f"{role}: {exc}"
    return ""
