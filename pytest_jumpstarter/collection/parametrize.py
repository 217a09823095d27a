"""
Tests that run on several boards: on each kind (`device_fixture(selectors=…)`), or on every exporter (`--jmp-each`).

The exporters are listed once in a run; under xdist by the controller process, because all workers must collect the same
tests.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.devices_of import ExporterName
from pytest_jumpstarter.errors import JumpstarterError
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.roles import roles_of
from pytest_jumpstarter.settings import SETTINGS
from pytest_jumpstarter.workers import WORKERS

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client
    from pytest_jumpstarter.settings import Setting

EACH: pytest.StashKey[EachExporter] = pytest.StashKey()

_WORKER_INPUT = "jumpstarter_each"


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a test on each board of its roles that have several, unless the test itself has parameters for the role."""
    settings = metafunc.config.stash[SETTINGS]
    each = metafunc.config.stash.get(EACH, None)
    for role, wish in roles_of(metafunc.definition).items():
        if _is_parametrised(metafunc, role):
            continue
        if settings.find("each", role) is not None and each is not None:
            names = each.exporters(role)
            metafunc.parametrize(role, ExporterName.all_of(names), indirect=True, ids=names)
        elif wish.selectors and not (settings.find("selector", role) or settings.find("exporter", role)):
            metafunc.parametrize(role, list(wish.selectors), indirect=True, ids=list(wish.selectors))


def _is_parametrised(metafunc: pytest.Metafunc, role: str) -> bool:
    """Return whether the test has a marker `parametrize` for the role."""
    marks = list(metafunc.definition.iter_markers("parametrize"))
    given = [mark.args[0] if mark.args else mark.kwargs.get("argnames", ()) for mark in marks]
    names = [each.split(",") if isinstance(each, str) else each for each in given]
    return any(role == str(name).strip() for group in names for name in group)


class EachExporter:
    """The exporters of `--jmp-each`; registered if it is set."""

    def __init__(self, config: pytest.Config) -> None:
        self._settings = config.stash[SETTINGS]
        self._known: dict[str, list[str]] = dict(getattr(config, "workerinput", {}).get(_WORKER_INPUT, {}))
        self._disabled: dict[str, list[str]] = {}
        self._session: pytest.Session | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Note the session, which is needed to start the run."""
        self._session = session

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send the names of the exporters to a worker of xdist."""
        roles = [setting.role for setting in self._settings.all("each")]
        node.workerinput[_WORKER_INPUT] = {role: self.exporters(role) for role in roles}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the disabled exporters, on which no test ran although they match."""
        for role, names in self._disabled.items():
            setting = self._settings.find("each", role)
            if names and setting is not None:
                terminalreporter.line(f"jumpstarter: {setting.source} left out disabled exporters: {', '.join(names)}")

    def exporters(self, role: str) -> list[str]:
        """
        Return the names of the exporters that match and are not disabled; they are listed at the first call.

        Raises:
            pytest.UsageError: No exporter matches, or they cannot be listed.
        """
        if role not in self._known:
            setting = self._settings.find("each", role)
            assert setting is not None
            try:
                self._known[role], self._disabled[role] = exporters_of(
                    self._client(), setting, wait=self._settings["wait"].value
                )
            except JumpstarterError as exc:
                raise pytest.UsageError(safe(f"{setting.source}: {exc}")) from exc
        return self._known[role]

    def _client(self) -> Client:
        from pytest_jumpstarter.running.start import start_run

        assert self._session is not None
        workers_controller = self._session.config.stash.get(WORKERS, None)
        client: Client = (
            workers_controller.lab_access
            if workers_controller is not None
            else start_run(self._session, self._settings)
        ).client
        return client


def exporters_of(client: Client, setting: Setting, *, wait: float) -> tuple[list[str], list[str]]:
    """
    Return the names of the enabled exporters that match, including offline ones, and those of the disabled ones.

    Args:
        client: The client of the lab controller.
        setting: The selector.
        wait: The value of `--jmp-wait` in seconds, which bounds the wait for a lab controller that does not answer.

    Raises:
        ConfigError: No exporter matches, or all are disabled.
        RequestError: The lab controller cannot list them.
    Source: jumpstarter.client.v1.ClientService ListExporters
    """
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.leasing.availability import look_for
    from pytest_jumpstarter.leasing.patience import patiently

    look = partial(look_for, client, Wanted(role=setting.role, selector=setting.text))
    candidates = patiently(look, wait=wait, has_answered=client.has_answered)
    enabled = sorted(exporter.name for exporter in candidates.enabled)
    return enabled, sorted({exporter.name for exporter in candidates.matching} - set(enabled))
