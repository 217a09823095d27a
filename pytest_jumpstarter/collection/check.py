"""
`--jmp-check`: run no test, and say beforehand whether the lab can serve the suite.

Registered where it is asked for. The exit code is 0 only if every collected test can get its devices, if need be after
a wait.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.collection.check_sheet import CheckSheet
from pytest_jumpstarter.devices_of import UNSEEN, devices_of
from pytest_jumpstarter.errors import ConfigError, JumpstarterError
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.lab_access import lab_access_of
from pytest_jumpstarter.leasing.availability import Availability, Candidates, candidates_of_lease
from pytest_jumpstarter.leasing.connect import ConsolePolicy
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds
from pytest_jumpstarter.roles import needs_of, wanted_of
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.run import Run
from pytest_jumpstarter.running.schedule import sets_of
from pytest_jumpstarter.selector import Selector
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted

_COLUMNS = ("role", "asks for", "match", "online", "free", "leased by")


class Check:
    """Takes the place of the tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._sheet = CheckSheet(config.pluginmanager.getplugin("terminalreporter"))
        self._can_all = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Look at the lab, and run nothing."""
        self._sheet.title("jumpstarter check")
        run = self._run()
        try:
            never = self._look(run, session.items)
        finally:
            run.finish()
        self._tell(session.items, never)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Let the exit code tell."""
        result = yield
        if session.exitstatus == pytest.ExitCode.OK and not self._can_all:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def _run(self) -> Run:
        """Return the run that the collection started already, for `--jmp-each`, or a new one."""
        if (run := self._config.stash.get(RUN, None)) is not None:
            return run
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # as `start_run` does
        settings = self._config.stash[SETTINGS]
        return Run(
            settings,
            _Requests(self._config),
            lab_access=lab_access_of(self._config, settings),
            ids=LeaseIds(worker="check"),
            consoles=ConsolePolicy(),
        )

    def _look(self, run: Run, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Say how things stand, and return the tests that can never get their devices, with the reason."""
        tests = [item for item in items if devices_of(item).planned]
        self._sheet.row("versions", ", ".join(f"{name} {number}" for name, number in _versions()))
        look = partial(_AtLab, run, self._sheet) if run.has_leases else partial(_AtExporter, run, self._sheet)
        try:
            place = look()
        except JumpstarterError as exc:
            self._sheet.row("stop", str(exc), is_bad=True)
            return dict.fromkeys(tests, "")  # said once, above
        return place.never(tests)

    def _tell(self, items: Sequence[pytest.Item], never: Mapping[pytest.Item, str]) -> None:
        count = sum(bool(devices_of(item).planned) for item in items)
        unseen = [item.nodeid for item in items if devices_of(item).may_look_up_more]
        self._can_all = not never
        for reason in filter(None, dict.fromkeys(never.values())):
            tests = [item.nodeid for item, why in never.items() if why == reason]
            self._sheet.reason(reason, tests)
        if unseen:
            self._sheet.note(f"not checked: {UNSEEN}", unseen)
        if not count and unseen:
            self._sheet.verdict(f"no test is known to need a device; {len(unseen)} may ask for one while they run")
        elif not count:
            self._sheet.verdict("no test needs a device")
        elif never:
            self._sheet.verdict(f"tests that need devices: {count}; {len(never)} cannot get theirs", is_bad=True)
        else:
            self._sheet.verdict(f"tests that need devices: {count}; all can get theirs")


class _Requests(Events):
    """Lets hooks change what is asked for; it is a question only, so nothing else is told to anybody."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Call `pytest_jumpstarter_lease_request`."""
        self._config.hook.pytest_jumpstarter_lease_request(request=request, role=role, config=self._config)


class _AtLab:
    """
    What a lab controller has to say.

    Raises:
        JumpstarterError: It does not let us ask.
    """

    def __init__(self, run: Run, sheet: CheckSheet) -> None:
        self._run = run
        self._sheet = sheet
        self._foreseen: dict[Wanted, Wanted] = {}
        self._candidates: dict[Wanted, Candidates] = {}
        self._shortages: dict[tuple[Wanted, ...], str] = {}
        config = run.lab_access.config
        for label, text, is_bad in _access(config):
            sheet.row(label, text, is_bad=is_bad)
        self._client: Client = run.client
        start = time.monotonic()
        self._availability = Availability.ask(self._client)
        elapsed = (time.monotonic() - start) * 1000
        sheet.row("answer", f"{len(self._availability.exporters)} exporters, in {elapsed:.0f} ms for two calls")
        if not (config.driver_allow or config.driver_unsafe):
            raise ConfigError(
                f"no driver client may be used: drivers.allow of {config.source} is empty; allow jumpstarter_driver_*"
            )

    def never(self, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Show a table of what the tests ask for, and return those that cannot have it, with the reason."""
        asked = {item: _asked(item) for item in items}
        for wanted in dict.fromkeys(wanted for devices in asked.values() for wanted in devices.values()):
            self._look(wanted)
        self._sheet.table(_COLUMNS, [_row(wanted, candidates) for wanted, candidates in self._candidates.items()])
        sets = sets_of(asked.values())
        anywhere = {role: wanted for devices in asked.values() for role, wanted in devices.items()}
        reasons = {}
        for item, devices in asked.items():
            more = {role: anywhere[role] for role in sets.get(next(iter(devices), ""), ())}
            reasons[item] = self._reason(item, devices) or self._shortage(more | devices)
        return {item: reason for item, reason in reasons.items() if reason}

    def _look(self, wanted: Wanted) -> None:
        try:
            self._foreseen[wanted] = foreseen = self._run.begin().foresee(wanted)
            of = self._availability.of if wanted.lease is None else partial(candidates_of_lease, self._client)
            self._candidates[wanted] = of(foreseen)
        except JumpstarterError as exc:
            self._candidates[wanted] = Candidates(problem=str(exc))

    def _reason(self, item: pytest.Item, devices: Mapping[str, Wanted]) -> str:
        """Return why a test cannot have one of its devices."""
        for role in devices_of(item).planned:
            if role not in devices:
                return _nonsense(item, role)
            if problem := self._candidates[devices[role]].problem:
                return f"{role}: {problem}"
        for role, needs in needs_of(item, devices_of(item).planned).items():
            for selector in map(Selector.parse, needs.labels):
                if not any(selector.matches(each.labels) for each in self._candidates[devices[role]].enabled):
                    there = f"of {devices[role]} none has {selector}, which the marker asks for"
                    return f"{role}: {there}, so that the test is always skipped; change the marker or the selector"
        return ""

    def _shortage(self, devices: Mapping[str, Wanted]) -> str:
        """Return why devices that are leased together cannot be had together, though each alone can."""
        able = [wanted for wanted in devices.values() if not self._candidates[wanted].problem and wanted.lease is None]
        wishes = tuple(self._foreseen[wanted] for wanted in able)
        if wishes not in self._shortages:  # of many tests it is the same
            self._shortages[wishes] = self._availability.shortage(wishes)
        return self._shortages[wishes]


class _AtExporter:
    """What one exporter has to say that is ours without a lease: it is connected to."""

    def __init__(self, run: Run, sheet: CheckSheet) -> None:
        self._run = run
        self._sheet = sheet
        words = {"shell": "inside a jmp shell, at JUMPSTARTER_HOST", "direct": "one exporter, without a lab"}
        sheet.row("mode", words[run.mode])

    def never(self, items: Sequence[pytest.Item]) -> dict[pytest.Item, str]:
        """Connect for each wish, and return the tests whose wish does not come true."""
        tried: dict[Wanted, str] = {}
        never = {}
        for item in items:
            devices = _asked(item)
            for role in devices_of(item).planned:
                reason = _nonsense(item, role) if role not in devices else ""
                if not reason and devices[role] not in tried:
                    tried[devices[role]] = self._try(devices[role])
                if reason := reason or tried[devices[role]]:
                    never[item] = reason
        return never

    def _try(self, wanted: Wanted) -> str:
        """Return why a wish does not come true; nothing if it does."""
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


def _versions() -> Iterator[tuple[str, str]]:
    for name, number in versions().items():
        yield name.removesuffix("_version").replace("plugin", "pytest-jumpstarter"), number


def _access(config: ClientConfig) -> Iterator[tuple[str, str, bool]]:
    """Yield (label, words, whether it is bad) of how the lab controller is reached, and as whom."""
    from pytest_jumpstarter.client.v1 import Proxy

    yield "client", f"{config.name} in namespace {config.namespace}, by {config.source}", False
    proxy = Proxy.in_force(config.endpoint)
    yield "lab", f"{config.endpoint}, {f'through {proxy}' if proxy else 'without a proxy'}", False
    if config.tls.insecure:
        yield "TLS", "trusts whatever certificate the lab shows first", False
    else:
        yield "TLS", f"trusts {'tls.ca' if config.tls.ca else 'the certificate authorities of this machine'}", False
    yield _token(config)


def _token(config: ClientConfig) -> tuple[str, str, bool]:
    from datetime import UTC, datetime, timedelta

    from pytest_jumpstarter.client.v1.token import token_expiry

    expiry = token_expiry(config.token)
    if expiry is None:
        return "token", "does not tell until when it is good", False
    left = expiry - datetime.now(UTC)
    when = f"{expiry.astimezone():%Y-%m-%d %H:%M}"
    if left <= timedelta(0):
        return "token", f"has expired, {when}", True
    words = f"{left.days} days" if left.days >= 2 else f"{left.total_seconds() / 3600:.1f} hours"
    return "token", f"good until {when}, for {words}", False


def _row(wanted: Wanted, candidates: Candidates) -> Sequence[Any]:
    by = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in candidates.leased_by.items())
    counts = (len(candidates.matching), len(candidates.usable), len(candidates.free))
    return wanted.role, str(wanted), *counts, by


def _asked(item: pytest.Item) -> dict[str, Wanted]:
    """Return what a test wants for each of its roles, as far as that makes sense."""
    asked = {}
    for role, wish in devices_of(item).planned.items():
        with suppress(ConfigError):
            asked[role] = wanted_of(item, role, wish)
    return asked


def _nonsense(item: pytest.Item, role: str) -> str:
    """Return why what a test wants for a role makes no sense."""
    try:
        wanted_of(item, role, devices_of(item).planned[role])
    except ConfigError as exc:
        return f"{role}: {exc}"
    return ""
